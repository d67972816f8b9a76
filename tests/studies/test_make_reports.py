"""Reports: experiments that exist, numbers only from result files, steps that are not run twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from cups.data.cityscapes import list_ground_truth_frames, read_panoptic_target
from cups.data.toy_streets import write_dataset
from cups.errors import UserError
from cups.evaluation.results import Result, write_results
from cups.io.files import write_json
from cups.io.png import write_png
from cups.io.provenance import write_provenance
from cups.taxonomy import VOID, class_set
from pseudo_labels.steps.stage1 import Command, refined_folder
from studies.commands import record_path
from studies.make_reports import main
from studies.reports import cause_tr_refinement as cause_report
from studies.reports import collection, stage_1_report
from studies.reports import overclustered_spidepth_sweep as sweep_report
from studies.reports.collection import Report, load, write_report
from studies.reports.names import NAMES
from studies.reports.pictures import label_classes, label_sheet, write_jpeg
from studies.toy_runs import ToyRuns
from studies.toy_settings import MIN_AREA
from studies.toy_stage1 import CAUSE, SWEEPS, sweep_folder

REPORTS = load(NAMES)
by_name = pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.NAME)


@by_name
def test_steps__are_commands_that_parse(
    parses: Callable[[str, Sequence[str]], None], tmp_path: Path, report: Report
) -> None:
    for step in report.steps(ToyRuns(tmp_path, (0,))):
        parses(step.script.removesuffix(".py").replace("/", "."), step.arguments)


def test_steps__one_record_each(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path)
    steps = list(dict.fromkeys(step for report in REPORTS for step in report.steps(runs)))
    assert len({record_path(step, runs.records) for step in steps}) == len(steps)


@by_name
def test_render__without_runs_no_number_is_made_up(tmp_path: Path, report: Report) -> None:
    runs = ToyRuns(tmp_path / "runs")
    assert dict(report.pictures(runs)) == {}
    ours = report.render(runs, ()).split("## Published")[0]
    assert "**Not run**" in ours and "not run" in ours
    assert not re.search(r"±|\*\*Holds|\*\*Does not hold", ours.split("## Verdict")[1])
    rows = [line.strip("|").split("|") for line in ours.splitlines() if line.startswith("| ")]
    assert not any(re.search(r"\d", cell) for row in rows for cell in row[1:])


@by_name
def test_render__published_figures_stand_apart_with_source_and_protocol(
    tmp_path: Path, report: Report
) -> None:
    published = report.render(ToyRuns(tmp_path), ()).split("## Published figures")[1]
    assert "| source | confidence |" in re.sub(r" +", " ", published)
    rows = [line for line in published.splitlines() if line.startswith("|")][2:]
    assert rows and all(re.fullmatch(r"[ABC]", row.split("|")[-2].strip()) for row in rows)


@by_name
def test_write_report__is_named_after_the_report(tmp_path: Path, report: Report) -> None:
    path = write_report(report, ToyRuns(tmp_path / "runs"), tmp_path / "reports")
    assert path == tmp_path / "reports" / f"{report.NAME}.md"
    assert path.read_text().startswith("# ")


def _write_scores(runs: ToyRuns, name: str, pq_things: Mapping[int, float]) -> None:
    for seed, value in pq_things.items():
        results = [
            Result(name, {"pq_things": value}, "protocol", rule, code_version="1.2.3 abc")
            for rule in ("standard", "upstream")
        ]
        write_results(runs.stem(seed, name), results)


@pytest.mark.parametrize(("depth", "head"), [(0.3, "**Holds**"), (0.1, "**Does not hold**")])
def test_stage_1__verdict_follows_the_numbers(tmp_path: Path, depth: float, head: str) -> None:
    runs = ToyRuns(tmp_path, (0, 1))
    _write_scores(runs, "overclusters_cc", {0: 0.2, 1: 0.2})
    _write_scores(runs, "overclusters_depth", {0: depth, 1: depth})
    text = stage_1_report.render(runs, ())
    assert f"{head}: objects proposed by depth beat connected components" in text
    assert f"depth {100 * depth:.1f} ± 0.0, components 20.0 ± 0.0" in text
    assert "- code: 1.2.3 abc\n" in text


def test_stage_1__tells_what_used_ground_truth(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0, 1))
    write_provenance(runs.root(0) / "cause_heads", script="x", arguments={})
    write_provenance(runs.root(1) / "cause_heads", script="x", arguments={}, uses_ground_truth=True)
    assert re.search(r"`cause_heads` +\| +yes \|", stage_1_report.render(runs, ()))


class _Counting:
    """A report with one step, which leaves a trace of each run."""

    NAME = "counting"

    def __init__(self, counter: Path) -> None:
        self.counter = counter

    def steps(self, runs: ToyRuns) -> list[Command]:
        code = f"open({str(self.counter)!r}, 'a').write('x')"
        return [Command("count", "timeit", ("-n", "1", "-r", "1", code))]

    def pictures(self, runs: ToyRuns) -> dict[str, np.ndarray]:
        return {self.NAME: np.zeros((4, 4, 3), np.uint8)}

    def render(self, runs: ToyRuns, drawn: Sequence[str]) -> str:
        return f"# {runs.machine()} {drawn}"


def test_main__runs_what_is_missing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "counter"
    monkeypatch.setattr(collection, "load", lambda names: (_Counting(counter),))
    flags = ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "reports")]
    for _ in range(2):
        assert main(flags) == 0
    assert counter.read_text() == "x"
    assert main([*flags, "--render_only"]) == 0
    assert counter.read_text() == "x"
    text = (tmp_path / "reports" / "counting.md").read_text()
    assert "cores" in text and "('counting',)" in text
    assert (tmp_path / "reports" / "figures" / "counting.jpg").is_file()


def test_main__dry_run_prints_the_commands_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--only", "cups_ablations", "--seeds", "0", "1", "--steps", "40", "--dry_run"]
    assert main(["--runs", str(tmp_path / "runs"), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not (tmp_path / "runs").exists()
    commands = [line for line in lines if not line.startswith("# ")]
    assert sum("train.py" in line for line in commands) == 2 * 4
    assert sum("train_self.py" in line for line in commands) == 2
    assert all("TRAINING.STEPS 40" in line for line in commands if "/train.py" in line)
    assert sum("cups.data.toy_streets" in line for line in commands) == 1


def test_main__runs_of_another_budget_or_other_data_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "load", lambda names: (_Counting(tmp_path / "counter"),))
    flags = ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "reports")]
    assert main([*flags, "--steps", "40"]) == 0
    with pytest.raises(UserError, match="holds runs of 40 steps; give `steps` 40, or another folder"):
        main([*flags, "--render_only"])
    assert main([*flags, "--steps", "40", "--render_only"]) == 0
    size = {"parameters": {"train_frames": 90, "val_frames": 20}}
    write_json(tmp_path / "runs" / "toy_streets" / "toy_streets.json", size)
    with pytest.raises(UserError, match=r"90 training and 20 .*another folder with `runs`"):
        main([*flags, "--steps", "40"])
    assert main([*flags, "--steps", "40", "--render_only"]) == 0, "reports on them can still be written"


def test_main__render_only_needs_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave out `render_only`"):
        main(["--runs", str(tmp_path / "none"), "--render_only"])


def test_main__an_unknown_report_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--runs", str(tmp_path), "--only", "stage_1_report", "stage_one"])
    assert "--only: invalid choice: 'stage_one' (choose from 'stage_1_report', " in capsys.readouterr().err


def test_load__names_are_those_of_the_reports() -> None:
    assert tuple(report.NAME for report in REPORTS) == NAMES


def test_write_jpeg__stays_under_the_limit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    write_jpeg(tmp_path / "a.jpg", noise, 25_000)
    assert (tmp_path / "a.jpg").stat().st_size <= 25_000
    with pytest.raises(ValueError, match="draw fewer tiles"):
        write_jpeg(tmp_path / "b.jpg", noise, 1000)
    assert not (tmp_path / "b.jpg").exists()


def test_label_sheet__colours_are_those_of_the_matched_classes(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0,))
    write_dataset(runs.data, train_frames=2, val_frames=1, height=96, width=192, workers=1, progress=False)
    assert label_sheet(runs, 0, [("perfect", "perfect")]) is None

    # Labels that are the ground truth under other ids (class c is cluster 18 - c), matched back.
    frame = list_ground_truth_frames(runs.data, "val")[0]
    target = read_panoptic_target(frame.label_ids, frame.instance_ids, class_set(19))
    clusters = np.where(target.categories == VOID, VOID, 18 - target.categories).astype(np.uint8)
    folder = runs.root(0) / "pseudo_semantic_x" / "val" / frame.image.parent.name
    write_png(folder / f"{frame.stem}.png", clusters)
    config = {"split": "val", "semantic_subdir": "pseudo_semantic_x", "num_semantic_classes": "19"}
    result = Result("perfect", {}, "protocol", assignment=list(range(18, -1, -1)), config=config)
    write_results(runs.stem(0, "perfect"), [result])

    assert np.array_equal(label_classes(runs.root(0), result, frame).categories, target.categories)
    sheet = label_sheet(runs, 0, [("perfect", "perfect"), ("missing", "missing")])
    assert sheet is not None and 3 * 300 < sheet.shape[1] < 4 * 300  # image, perfect, ground truth


def _write_sweep(runs: ToyRuns, seed: int, name: str, gain: float) -> None:
    """Two areas, one threshold and components: depth is `gain` above components of 0.2 at each area."""
    rows = [
        {
            "grad_threshold": threshold,
            "min_area": area,
            "void_rule": rule,
            **dict.fromkeys(sweep_report.METRICS, 0.2 + (gain if threshold else 0.0)),
        }
        for rule in ("standard", "upstream")
        for area in (20, MIN_AREA)
        for threshold in (SWEEPS[name].fixed, None)
    ]
    path = runs.root(seed) / sweep_folder(name) / "sweep.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"rows": rows}))


def test_sweep__fixed_setting_against_components_of_the_same_area(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0, 1))
    for seed in runs.seeds:
        _write_sweep(runs, seed, "classes", 0.1)
        _write_sweep(runs, seed, "things", -0.1)
        _write_sweep(runs, seed, "learned", 0.2)
    text = sweep_report.render(runs, ())
    assert re.search(r"\*\*Holds\*\*: .*each class\)\. PQ things: depth 30\.0 ± 0\.0, components 20\.0", text)
    assert re.search(r"\*\*Does not hold\*\*: .*things together\)\.", text)
    assert "each class: 2 of 2 settings beat" in text and "together: 0 of 2 settings beat" in text
    assert re.search(r"\*\*Holds\*\*: .*learned depth\)\. PQ things: depth 40\.0", text)
    assert re.search(r"\*\*Not run\*\*: .*proposed by depth\)", text)
    drawn = {f"{sweep_report.NAME}_{way}" for way in SWEEPS if way != "objects"}
    assert set(sweep_report.pictures(runs)) == drawn


def test_cause_tr_refinement__clusters_over_k(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0,))
    scores = [
        {
            "name": name,
            "recovered": ["road"] * count,
            "purity": 0.5,
            "miou": {"val": {}, "train": {"joint": value}},
        }
        for name, count, value in (("plain CAUSE", 2, 0.1), ("k = 27", 3, 0.15), ("k = 300", 9, 0.2))
    ]
    path = runs.root(0) / cause_report.ANALYSIS
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"scores": scores}))
    text = cause_report.render(runs, ())
    assert "**Holds**: overclustering the codes of CAUSE beats plain CAUSE on mIoU (k = 300" in text
    assert "difference +10.00 (seed 0)" in text
    assert re.search(r"\| k = 27 +\| +not run \| 15\.0 \(seed 0\) \| +not run \| +3\.0 \|", text)


def test_cause_tr_refinement__counts_pixels_that_refinement_changes(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0, 1))
    before = np.zeros((4, 5), np.uint8)
    after = before.copy()
    after[0, :3] = 7  # 3 of 20 pixels
    for folder, ids in ((CAUSE, before), (refined_folder(CAUSE), after)):
        write_png(runs.root(0) / folder / "val" / "city" / "a.png", ids)
    assert cause_report.changed(runs, CAUSE) == {0: pytest.approx(0.15)}
    assert "CAUSE\n15.0 (seed 0), overclusters not run." in cause_report.render(runs, ())
