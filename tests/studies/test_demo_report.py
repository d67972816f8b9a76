"""The demo's sentences: what each stage gains, and whether the frames can tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.evaluation.results import results_from_scores, rows_path, write_results
from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.protocol import NAMED
from cups.taxonomy import class_set
from studies.demo_report import STEMS, DemoFiles, verdict

CLASSES = class_set(19)


def write_scores(output: Path, stem: str, found: float) -> None:
    """Results of 30 frames with ten cars each, of which a share is found."""
    metric = PanopticQualitySemanticMatching(CLASSES.things, CLASSES.stuffs, 19, void=255)
    for frame in range(30):
        luck = np.random.default_rng(frame).random(10)
        cars = [(13 if luck[n] < found else 0, n + 1, 13, n + 1, 50) for n in range(10)]
        metric.update_rows(np.array([(0, 0, 0, 0, 1000), *cars], dtype=np.int32))
    scores = metric.compute_all()
    rows = metric.scored_rows([f"frame_{n}" for n in range(30)], CLASSES.names, scores)
    results = results_from_scores(stem, scores, CLASSES, NAMED["toy-19"])
    write_results(output / stem, results, rows=rows)


@pytest.mark.parametrize(
    ("stage2", "words"),
    [(0.8, "beats"), (0.5, "does not differ beyond the interval from"), (0.2, "loses to")],
)
def test_verdict__words_follow_the_interval(tmp_path: Path, stage2: float, words: str) -> None:
    write_scores(tmp_path, STEMS[0], 0.5)
    write_scores(tmp_path, STEMS[1], stage2)
    files = DemoFiles(tmp_path, "semantics")
    text = verdict(files, "Stage 2", STEMS[1], "labels", STEMS[0])
    before, after = (100 * files.results(stem)[0].metrics["pq"] for stem in STEMS[:2])
    assert text.startswith(f"Stage 2 - labels: {after - before:+.1f} PQ (90 % interval ")
    assert text.endswith(f", 30 frames): Stage 2 {words} labels.")
    # Results of earlier versions have no rows: the numbers alone.
    rows_path(tmp_path / STEMS[0]).unlink()
    text = verdict(files, "Stage 2", STEMS[1], "labels", STEMS[0])
    assert "interval" not in text and f"{after:.1f} against {before:.1f} PQ" in text
