"""Reports of Stage 2 and Stage 3: numbers from result files, experiments that share what they can."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.data.cityscapes import list_ground_truth_frames, read_panoptic_target
from cups.data.toy_streets import write_dataset
from cups.evaluation.results import Result, write_results
from cups.io.coco_panoptic import write_panoptic
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import write_png
from cups.taxonomy import VOID, class_set
from studies import displace_labels
from studies.reports import stage2_spatial_alignment_fix as alignment
from studies.reports import stage3_self_training as self_training
from studies.reports import stage_1_report
from studies.reports.pictures import predicted_classes
from studies.toy_runs import ToyRuns
from studies.toy_settings import LABELS
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
    for report in (alignment, self_training):
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
            (*self_training.STAGES, *self_training.ROUND_ROWS, *self_training.ABLATION_ROWS),
        ),
    ):
        arguments = {argument for step in report.steps(runs) for argument in step.arguments}
        for _, file in files:
            stem = runs.stem(0, file)
            assert str(stem if file == PSEUDO_LABELS else stem.parent) in arguments


def test_ablations__leave_out_one_part_each(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0,))
    trained = {s.name: s.arguments for s in self_training.steps(runs) if s.script == "train_self.py"}
    full = trained.pop("seed 0: Stage 3")
    assert len(trained) == len(self_training.ABLATIONS) == 3
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
    assert row(text, "chosen round | 2 | 2 | 2")
    assert "| before (Stage 2) | 40.0 / 33.0 | 40.0 / 34.0 | 40.0 / 35.0 |" in re.sub(r" +", " ", text)
    assert re.search(r"\| Stage 3 +\| +no \|", text) and re.search(r"\| Stage 2 +\| +unknown \|", text)
    assert "- code: 1.2.3 abc\n" in text


def test_self_training__a_choice_by_ground_truth_is_told(tmp_path: Path) -> None:
    runs = ToyRuns(tmp_path, (0,))
    write_scores(runs, network_result("stage3"), {0: 0.3}, provenance={"uses_ground_truth": True})
    assert re.search(r"\| Stage 3 +\| +yes \|", self_training.render(runs, ()))


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> ToyRuns:
    """Runs of one seed with tiny toy streets; frames of 192x384 as in the reports."""
    runs = ToyRuns(tmp_path_factory.mktemp("runs"), (0,))
    write_dataset(runs.data, train_frames=2, val_frames=1, workers=1, progress=False)
    return runs


def test_alignment__picture_and_share_come_from_the_label_files(streets: ToyRuns) -> None:
    """Perfect labels: aligned they show the ground truth; displaced, most pixels another class."""
    runs, run = streets, ToyTraining(streets, 0)
    assert dict(alignment.pictures(runs)) == {} and alignment.displaced_share(runs) == {}
    for frame in list_ground_truth_frames(runs.data, "train"):
        target = read_panoptic_target(frame.label_ids, frame.instance_ids, class_set(19))
        write_png(run.labels / f"{frame.stem}{SEMANTIC_SUFFIX}", target[..., 0].astype(np.uint8))
        write_png(run.labels / f"{frame.stem}{INSTANCE_SUFFIX}", target[..., 1].astype(np.uint16))
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
    assert shown.shape == (*alignment.SIZE, 2)
    # Row 60 of 120 lies on row 96 of 192, column 120 of 240 on column 192 of 384.
    assert shown[60, 120, 0] == target[96, 192, 0]


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
    target = read_panoptic_target(frame.label_ids, frame.instance_ids, class_set(19)).astype(np.int64)
    clusters = np.where(target[..., 0] == VOID, VOID, 18 - target[..., 0])
    for run_name in ("stage2", "stage3"):
        folder = prediction_folder(runs, 0, run_name)
        write_panoptic(folder / f"{frame.stem}.png", np.stack((clusters, target[..., 1]), axis=-1), VOID)
        write_scores(runs, network_result(run_name), {0: 1.0}, assignment=list(range(18, -1, -1)))
    result = runs.results(network_result("stage3"))[0]
    assert np.array_equal(predicted_classes(folder, result, frame)[..., 0], target[..., 0])

    relative = Path("val") / frame.image.parent.name / f"{frame.stem}.png"
    write_png(runs.root(0) / "pseudo_semantic_x" / relative, clusters.astype(np.uint8))
    config = {"split": "val", "semantic_subdir": "pseudo_semantic_x", "num_semantic_classes": "19"}
    write_scores(runs, PSEUDO_LABELS, {0: 1.0}, assignment=list(range(18, -1, -1)), config=config)
    picture = self_training.pictures(runs)[self_training.NAME]
    assert 5 * 300 < picture.shape[1] < 6 * 300  # image, labels, both stages, ground truth
    assert f"figures/{self_training.NAME}.jpg" in self_training.render(runs, (self_training.NAME,))


def test_labels__have_the_place_of_the_demo(tmp_path: Path) -> None:
    assert ToyTraining(ToyRuns(tmp_path, (0,)), 0).labels == tmp_path / "seed_0" / LABELS
