"""Two results compared from their files: numbers of the metric, frames by name, errors in one line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import val
from cups.errors import UserError
from cups.evaluation.comparison import compare, comparison_table, rows_of, sentence
from cups.evaluation.results import Result, results_from_scores, write_results
from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.bootstrap import METRICS, Difference
from cups.metrics.protocol import NAMED
from cups.taxonomy import class_set

CLASSES = class_set(19)
FRAMES = 12


def evaluate(stem: Path, wrong: float, frames: int = FRAMES) -> dict[str, dict[str, torch.Tensor]]:
    """Write results of rectangles of road, sky and cars, of which a share is called something else."""
    metric = PanopticQualitySemanticMatching(CLASSES.things, CLASSES.stuffs, 19, void=255)
    for frame in range(frames):
        rng = np.random.default_rng(frame)
        target = np.zeros((16, 32, 2), dtype=np.int64)
        target[:4, :, 0] = 10
        for number in range(1, 5):
            left = 8 * (number - 1) + int(rng.integers(0, 3))
            target[6:12, left : left + 5] = (13, number)
        prediction, lost = target.copy(), rng.random(5)
        for number in range(1, 5):
            prediction[(target[..., 1] == number) & (lost[number] < wrong)] = (0, 0)
        metric.update(*(torch.from_numpy(part)[None] for part in (prediction, target)))
    scores = metric.compute_all()
    names = [f"city_{frame:06}" for frame in range(frames)]
    results = results_from_scores(stem.name, scores, CLASSES, NAMED["toy-19"])
    write_results(stem, results, rows=metric.scored_rows(names, CLASSES.names, scores))
    return scores


def cells(text: str, title: str) -> list[list[str]]:
    """The rows of both tables that begin with a title."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return [line for line in lines if line[0] == title]


def test_compare__shows_what_the_metric_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = evaluate(tmp_path / "a" / "results", 0.7)
    better = evaluate(tmp_path / "b" / "results", 0.3)
    assert val.main(["--compare", str(tmp_path / "a" / "results"), str(tmp_path / "b")]) == 0
    text = capsys.readouterr().out
    assert "- 12 frames\n" in text and "Standard void rule:" in text and "Upstream void rule:" in text
    for rule, row in zip(("standard", "upstream"), cells(text, "PQ"), strict=True):
        one, other = (100 * float(scores[rule]["pq"]) for scores in (worse, better))
        assert row[1:4] == [f"{one:.1f}", f"{other:.1f}", f"{other - one:+.1f}"]
        low, high = (float(value) for value in row[4].split(" to "))
        assert 0 < low < other - one < high
    car = 100 * float(better["standard"]["pq_per_class"][13])
    assert cells(text, "PQ car")[0][2] == f"{car:.1f}"
    assert len(cells(text, "PQ things")) == len(cells(text, "mIoU")) == 2
    assert not cells(text, "PQ train"), "a class that nobody meets is left out"


def test_compare__with_itself_is_nothing(tmp_path: Path) -> None:
    evaluate(tmp_path / "results", 0.4)
    text = compare(tmp_path / "results.json", tmp_path / "results.rows.npz")
    assert {row[3] for row in cells(text, "PQ")} == {"+0.0"}
    assert {row[4] for row in cells(text, "PQ")} == {"+0.0 to +0.0"}


def test_compare__errors_name_files_and_fix(tmp_path: Path) -> None:
    evaluate(tmp_path / "a", 0.4)
    evaluate(tmp_path / "b", 0.4, FRAMES - 1)
    with pytest.raises(UserError, match=r"a, .*b: the two results are of other images: city_000011") as error:
        compare(tmp_path / "a", tmp_path / "b")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"c\.rows\.npz: no such file; evaluate again"):
        compare(tmp_path / "a", tmp_path / "c.json")


def test_write_results__rows_of_earlier_results_go(tmp_path: Path) -> None:
    evaluate(tmp_path / "results", 0.4)
    assert rows_of(tmp_path).names.tolist()[0] == "city_000000"
    write_results(tmp_path / "results", [Result("semantics alone", {"miou": 0.5}, "protocol")])
    with pytest.raises(UserError, match="no such file"):
        rows_of(tmp_path)


def test_comparison_table__a_mean_of_nothing_has_no_interval() -> None:
    nothing = Difference(*[float("nan")] * 4, images=3)
    some = Difference(0.25, 0.5, 0.1, 0.4, images=3)
    table = comparison_table({name: nothing for name in METRICS} | {"pq road": some, "pq sky": nothing})
    assert not re.search("nan|sky", table) and cells(table, "PQ road")[0][3:] == ["+25.0", "+10.0 to +40.0"]


@pytest.mark.parametrize(
    ("low", "words"),
    [(0.01, "beats"), (-0.01, "does not differ beyond the interval from"), (-0.5, "loses to")],
)
def test_sentence__words_follow_the_interval(low: float, words: str) -> None:
    one = Difference(0.2, 0.2 + low + 0.01, low, low + 0.02, images=150)
    text = sentence("Stage 2", "labels", one)
    assert text.endswith(f": Stage 2 {words} labels.") and ", 150 frames)" in text
    assert text.startswith(
        f"Stage 2 - labels: {100 * (low + 0.01):+.1f} PQ (90 % interval {100 * low:+.1f} to"
    )
