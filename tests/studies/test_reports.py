"""Reports of Stage 2 and Stage 3: numbers from result files, experiments that share what they can."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.config import build_config
from cups.data.cityscapes import list_ground_truth_frames, read_panoptic_target
from cups.data.toy_streets import write_dataset
from cups.evaluation.results import Result, results_from_scores, write_results
from cups.io.coco_panoptic import write_panoptic
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import write_png
from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.bootstrap import Difference
from cups.metrics.protocol import NAMED
from cups.taxonomy import VOID, class_set
from studies import displace_labels
from studies.reports import cups_ablations as ablations
from studies.reports import stage2_spatial_alignment_fix as alignment
from studies.reports import stage3_self_training as self_training
from studies.reports import stage_1_report
from studies.reports.pictures import predicted_classes
from studies.reports.text import judge
from studies.toy_runs import ToyRuns
from studies.toy_settings import CONFIG, LABELS
from studies.toy_training import PSEUDO_LABELS, ROUNDS, ToyTraining, network_result, prediction_folder

THINGS = list(range(11, 19))


def write_scores(runs: ToyRuns, name: str, pq: Mapping[int, float], **more: Any) -> None:
    """Result files of an evaluation, as evaluate_pseudolabels.py and val.py write them."""
    for seed, value in pq.items():
        metrics = dict.fromkeys(("pq", "pq_things", "pq_stuff", "miou"), value)
        results = [
            Result(name, metrics, "protocol", rule, code_version="1.2.3 abc", **more)
            for rule in ("standard", "upstream")
        ]
        write_results(runs.stem(seed, name), results)


def write_rows(runs: ToyRuns, name: str, found: Mapping[int, float], frames: int = 40) -> None:
    """Result files with rows: road in every frame, and of 400 cars the share that is found."""
    classes = class_set(19)
    for seed, share in found.items():
        metric = PanopticQualitySemanticMatching(classes.things, classes.stuffs, 19, void=VOID)
        for frame in range(frames):
            luck = np.random.default_rng(frame).random(10)
            cars = [(13 if luck[n] < share else 0, n + 1, 13, n + 1, 50) for n in range(10)]
            metric.update_rows(np.array([(0, 0, 0, 0, 1000), *cars], dtype=np.int32))
        scores = metric.compute_all()
        results = results_from_scores(name, scores, classes, NAMED["toy-19"], code_version="1.2.3 abc")
        rows = metric.scored_rows([f"frame_{n}" for n in range(frames)], classes.names, scores)
        write_results(runs.stem(seed, name), results, rows=rows)


def row(text: str, title: str) -> str:
    """The first row of a table that begins with `title`, spaces made single."""
    lines = (re.sub(r" +", " ", line) for line in text.splitlines())
    return next(line for line in lines if line.startswith(f"| {title} |"))


def test_label_steps__are_those_of_the_stage_1_report(tmp_path: Path) -> None:
    """Equal steps are run once; another argument would make the labels twice, and overwrite them."""
    runs = ToyRuns(tmp_path, (0,))
    shared = stage_1_report.steps(runs)
    own = [step for step in ToyTraining(runs, 0).label_steps() if step not in shared]
    assert [step.name for step in own] == ["seed 0: CUPS format"]
    first, second = (report.steps(runs) for report in (alignment, self_training))
    trained = [step for step in first if step in second]
    assert all("train.py" not in step.script for step in trained)


def test_steps__every_checkpoint_is_written_before_it_is_read(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0, 1))
    for report in (alignment, self_training, ablations):
        written: set[Path] = set()
        for step in report.steps(runs):
            given = dict(zip(step.arguments, step.arguments[1:], strict=False))
            if "--checkpoint" in given:
                assert Path(given["--checkpoint"]).parents[1] in written
            if step.script in ("train.py", "train_self.py"):
                written.add(Path(given["--log_path"]) / given["--run_name"])


def test_steps__results_are_read_where_they_are_written(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0,))
    for report, files in (
        (alignment, alignment.ARMS),
        (
            self_training,
            (
                *self_training.STAGES,
                *self_training.EDGE_ROWS,
                *self_training.ROUND_ROWS,
                *self_training.ABLATION_ROWS,
            ),
        ),
        (ablations, ablations.variants(runs)),
    ):
        arguments = {argument for step in report.steps(runs) for argument in step.arguments}
        for _, file in files:
            stem = runs.stem(0, file)
            assert str(stem if file == PSEUDO_LABELS else stem.parent) in arguments


def test_ablations__leave_out_one_part_each(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0,))
    trained = {s.name: s.arguments for s in self_training.steps(runs) if s.script == "train_self.py"}
    full = trained.pop("seed 0: Stage 3")
    assert len(trained) == len(self_training.ABLATIONS) == 5
    for arguments in trained.values():
        assert arguments[: len(full)] != full and len(arguments) == len(full) + 2
        assert [a for a, b in zip(arguments, full, strict=False) if a != b] == [
            arguments[full.index("stage3")]  # the name of the run
        ]


@pytest.mark.parametrize(("gain", "head"), [(0.02, "**Holds**"), (-0.02, "**Does not hold**")])
def test_self_training__verdicts_follow_the_numbers(tmp_path: Path, gain: float, head: str) -> None:
    runs = ToyRuns(tmp_path, (0, 1, 2))
    choice = {
        "criterion": "consistency",
        "round": 2,
        "values": {"before": 0.4, **{f"round_{number}": 0.5 for number in range(1, ROUNDS + 1)}},
    }
    write_scores(runs, PSEUDO_LABELS, {0: 0.30, 1: 0.31, 2: 0.32})
    write_scores(runs, network_result("stage2"), {0: 0.33, 1: 0.34, 2: 0.35})
    stage3 = {0: 0.33 + gain, 1: 0.34 + gain, 2: 0.35 + gain}
    provenance = {"uses_ground_truth": False, "checkpoint_choice": choice}
    write_scores(runs, network_result("stage3"), stage3, provenance=provenance)
    write_scores(runs, self_training.round_result(ROUNDS), stage3)
    write_scores(runs, network_result("stage3_no_ema"), {0: 0.33, 1: 0.34, 2: 0.35})
    text = self_training.render(runs, ())
    assert "**Holds**: Stage 2 beats its pseudo-labels on PQ" in text
    assert f"{head}: Stage 3 beats Stage 2 on PQ" in text
    assert f"{head}: the full method beats the one with no average" in text
    assert "**Not run**: the full method beats the one with no test-time augmentation" in text
    assert row(text, "Stage 2").startswith("| Stage 2 | 34.0 ± 1.0 |")
    assert "The last round is kept (`SELF_TRAINING.SELECT last`" in text
    keys = build_config(CONFIG, ["SELF_TRAINING.SELECT", "consistency"]).SELF_TRAINING
    told = self_training.selection(runs, keys)
    assert row(told, "kept round | 2 | 2 | 2")
    assert "| before (Stage 2) | 40.0 / 33.0 | 40.0 / 34.0 | 40.0 / 35.0 |" in re.sub(r" +", " ", told)
    assert re.search(r"\| Stage 3 +\| +no \|", text) and re.search(r"\| Stage 2 +\| +unknown \|", text)
    assert "- code: 1.2.3 abc\n" in text


@pytest.mark.parametrize(
    ("stage3", "head"),
    [
        ({0: 0.9, 1: 0.9}, "**Holds**"),
        ({0: 0.9, 1: 0.505}, "**Holds for some seeds only**"),
        ({0: 0.505, 1: 0.5}, "**Not settled**"),
        ({0: 0.1, 1: 0.505}, "**Does not hold**"),
    ],
)
def test_self_training__verdicts_follow_the_intervals(
    tmp_path: Path, stage3: dict[int, float], head: str
) -> None:
    """A difference that other frames could turn is none; the old rule took every sign for a verdict."""
    runs = ToyRuns(tmp_path, (0, 1))
    write_rows(runs, network_result("stage2"), {0: 0.5, 1: 0.5})
    write_rows(runs, network_result("stage3"), stage3)
    text = self_training.render(runs, ())
    line = next(line for line in text.splitlines() if ": Stage 3 beats Stage 2 on PQ. " in line)
    assert line.startswith(f"- {head}: ")
    found = re.findall(r"([+-][\d.]+) \(seed \d, ([+-][\d.]+) to ([+-][\d.]+)\)", line)
    assert len(found) == 2 and all(float(low) <= float(gain) <= float(high) for gain, low, high in found)
    mean = re.search(r"; mean ([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)\)\.", line)
    assert mean is not None
    gain, low, high = map(float, mean.groups())
    assert gain == pytest.approx(np.mean([float(one) for one, *_ in found]), abs=0.011)
    assert low <= gain <= high
    assert "Rule: a claim holds if" in text and "paired bootstrap" in text


def test_judge__a_mean_over_some_of_the_seeds_is_not_told() -> None:
    """Of two seeds one kept its rows: its gain alone passed for the mean of both."""
    one = Difference(0.5, 0.6, 0.05, 0.15, 10)
    sides = ("new", {0: 0.6, 1: 0.4}), ("old", {0: 0.5, 1: 0.5})
    for intervals, told in (({0: one}, False), ({0: one, 1: one}, True)):
        text = judge("new beats old", *sides, "PQ", intervals=intervals, over_seeds=one).text
        assert ("; mean +10.00 (+5.00 to +15.00)" in text) is told


def test_cups_ablations__rows_add_one_part_each_and_share_the_demos_run(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0,))
    rows = ablations.stage2_rows(runs.steps)
    trained = {}
    for step in ablations.steps(runs):
        if step.script == "train.py":
            given = dict(zip(step.arguments, step.arguments[1:], strict=False))
            config = build_config(CONFIG, step.arguments[step.arguments.index("SYSTEM.SEED") :])
            paste = config.AUGMENTATION
            source = "labels" if runs.steps <= paste.NUM_STEPS_STARTUP else "own"
            kind = source if paste.COPY_PASTE else "none"
            trained[given["--run_name"]] = (config.TRAINING.DROP_LOSS, kind, config.TRAINING.STEPS)
    assert [trained[row.run] for row in rows] == [
        (False, "none", runs.steps),
        (True, "none", runs.steps),
        (True, "labels", runs.steps),
        (True, "own", runs.steps),
    ]
    assert [row.run for row in rows if row.run == "stage2"] == ["stage2"], "the demo is one of them"
    shared = [step for step in ablations.steps(runs) if step in self_training.steps(runs)]
    assert {"seed 0: Stage 2", "seed 0: Stage 2, evaluated"} <= {step.name for step in shared}


def test_cups_ablations__self_training_goes_on_from_the_row_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the demo pastes own finds itself, the last two rows are the runs of the other report."""
    runs = ToyRuns(tmp_path, (0,))
    for startup, start, last in (("1000000", "ablation_own_finds", None), ("100", "stage2", "stage3")):
        config = build_config(CONFIG, ["AUGMENTATION.NUM_STEPS_STARTUP", startup])
        monkeypatch.setattr(ablations, "build_config", lambda _, config=config: config)
        steps = ablations.steps(runs)
        (trained,) = [step for step in steps if step.script == "train_self.py"]
        given = dict(zip(trained.arguments, trained.arguments[1:], strict=False))
        assert Path(given["--checkpoint"]).parents[1].name == start
        assert last in (None, given["--run_name"])
        assert (trained in self_training.steps(runs)) == (last == "stage3")


def test_cups_ablations__each_row_is_judged_against_the_one_before(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0, 1))
    files = [file for _, file in ablations.variants(runs)]
    for file, share in zip(files, (0.3, 0.6, 0.6, 0.2), strict=False):
        write_rows(runs, file, dict.fromkeys(runs.seeds, share))
    text = ablations.render(runs, ())
    for head, claim in (
        ("Holds", "+ DropLoss beats the row before, vanilla"),
        ("Not settled", "+ copy-paste beats the row before, + DropLoss"),
        ("Does not hold", "+ self-enhanced copy-paste beats the row before, + copy-paste"),
        ("Not run", "+ self-training beats the row before, + self-enhanced copy-paste"),
    ):
        assert f"- **{head}**: {claim}, on PQ" in text
    published = text.split("## Published figures")[1]
    assert "Another data set (Cityscapes)" in published
    assert re.findall(r"PQ (\d\d\.\d)", published) == ["24.1", "25.3", "26.3", "26.6", "27.8"]


def test_self_training__a_choice_by_ground_truth_is_told(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0,))
    write_scores(runs, network_result("stage3"), {0: 0.3}, provenance={"uses_ground_truth": True})
    assert re.search(r"\| Stage 3 +\| +yes \|", self_training.render(runs, ()))


@pytest.fixture(scope="module")
def streets(make_folder: Callable[[str], Path]) -> ToyRuns:
    """Runs of one seed with tiny toy streets; frames of 192x384 as in the reports."""
    runs = ToyRuns(make_folder("runs"), (0,))
    write_dataset(runs.data, train_frames=2, val_frames=1, workers=1, progress=False)
    return runs


def test_alignment__picture_and_share_come_from_the_label_files(streets: ToyRuns) -> None:
    """Perfect labels: aligned they show the ground truth; displaced, most pixels another class."""
    runs, run = streets, ToyTraining(streets, 0)
    assert dict(alignment.pictures(runs)) == {} and alignment.displaced_share(runs) == {}
    for frame in list_ground_truth_frames(runs.data, "train"):
        target = read_panoptic_target(frame.label_ids, frame.instance_ids, class_set(19))
        write_png(run.labels / f"{frame.stem}{SEMANTIC_SUFFIX}", target.categories.astype(np.uint8))
        write_png(run.labels / f"{frame.stem}{INSTANCE_SUFFIX}", target.instances.astype(np.uint16))
    config = {"num_semantic_classes": "19", "things": THINGS}
    write_scores(runs, PSEUDO_LABELS, {0: 1.0}, assignment=list(range(19)), config=config)
    output = run.root / alignment.DISPLACED
    flags = ("--pseudo_root", run.labels, "--output_dir", output, "--scale", alignment.SCALE)
    displace_labels.main([str(flag) for flag in flags])

    share = alignment.displaced_share(runs)[0]
    assert 0.2 < share < 0.9
    assert f"class, in percent:\n{100 * share:.1f} (seed 0)." in alignment.render(runs, ())
    picture = alignment.pictures(runs)[alignment.NAME]
    assert picture.ndim == 3 and picture.shape[1] > 3 * 400

    frame = list_ground_truth_frames(runs.data, "train")[0]
    result = runs.results(PSEUDO_LABELS)[0]
    shown = alignment.shown_labels(run.labels, frame.stem, result)
    target = read_panoptic_target(frame.label_ids, frame.instance_ids, class_set(19))
    assert shown.shape == alignment.SIZE
    # Row 60 of 120 lies on row 96 of 192, column 120 of 240 on column 192 of 384.
    assert shown.categories[60, 120] == target.categories[96, 192]


def test_alignment__verdict_follows_the_numbers(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0, 1))
    write_scores(runs, network_result("aligned"), {0: 0.3, 1: 0.3})
    write_scores(runs, network_result("displaced"), {0: 0.1, 1: 0.3})
    text = alignment.render(runs, ())
    assert "**Holds for some seeds only**: aligned labels beat displaced ones on PQ. PQ: aligned 30.0" in text
    assert row(text, "labels displaced: cropped, not scaled").count("20.0 ± 14.1") == 4
    assert "192 rows and 384\ncolumns off" in text and "36 rows and 72 columns" in text


def test_self_training__ablations_are_compared_over_the_seeds_that_have_all(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0, 1))
    (_, full), *ablated = self_training.ABLATION_ROWS
    write_scores(runs, full, {0: 0.2, 1: 0.4})
    assert row(self_training.render(runs, ()), "full method").count("30.0 ± 14.1") == 4
    for _, file in ablated:
        write_scores(runs, file, {1: 0.1})
    assert row(self_training.render(runs, ()), "full method").count("40.0 (seed 1)") == 4


def test_self_training__picture_shows_predictions_in_matched_classes(streets: ToyRuns) -> None:
    runs = streets
    frame = list_ground_truth_frames(runs.data, "val")[0]
    target = read_panoptic_target(frame.label_ids, frame.instance_ids, class_set(19))
    clusters = np.where(target.categories == VOID, VOID, 18 - target.categories)
    for run_name in ("stage2", "stage3"):
        folder = prediction_folder(runs, 0, run_name)
        write_panoptic(folder / f"{frame.stem}.png", np.stack((clusters, target.instances), axis=-1), VOID)
        write_scores(runs, network_result(run_name), {0: 1.0}, assignment=list(range(18, -1, -1)))
    result = runs.results(network_result("stage3"))[0]
    assert np.array_equal(predicted_classes(folder, result, frame).categories, target.categories)

    relative = Path("val") / frame.image.parent.name / f"{frame.stem}.png"
    write_png(runs.root(0) / "pseudo_semantic_x" / relative, clusters.astype(np.uint8))
    config = {"split": "val", "semantic_subdir": "pseudo_semantic_x", "num_semantic_classes": "19"}
    write_scores(runs, PSEUDO_LABELS, {0: 1.0}, assignment=list(range(18, -1, -1)), config=config)
    picture = self_training.pictures(runs)[self_training.NAME]
    assert 5 * 300 < picture.shape[1] < 6 * 300  # image, labels, both stages, ground truth
    assert f"figures/{self_training.NAME}.jpg" in self_training.render(runs, (self_training.NAME,))


def test_labels__have_the_place_of_the_demo(tmp_path: Path) -> None:
    assert ToyTraining(ToyRuns(tmp_path, (0,)), 0).labels == tmp_path / "seed_0" / LABELS
