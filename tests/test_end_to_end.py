"""The pipeline on a tiny rendered city: every script as its user calls it, and a training that is killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cups.evaluation.results import read_results
from cups.model import panoptic_cascade_mask_r_cnn_from_checkpoint
from pseudo_labels.steps.stage1 import Stage1Options
from studies.demo_steps import demo_steps
from tests.warm import warm_python

ROOT = Path(__file__).resolve().parents[1]
CLUSTERS = 12
TINY = (
    *("SYSTEM.NUM_WORKERS", "0", "TRAINING.PRECISION", "32", "TRAINING.VAL_EVERY_N_STEPS", "2"),
    *("DATA.CROP_RESOLUTION", "(96, 192)", "AUGMENTATION.RESOLUTIONS", "((96, 192), (64, 128))"),
    *("TRAINING.DECAY", "constant", "TRAINING.LOG_MEDIA_N_STEPS", "2"),
)


def _run(script: str, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script from another folder than the repository's, as an installed user may."""
    command = [warm_python(), str(ROOT / script), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent, timeout=600, check=False)
    assert run.returncode == expect, run.stdout[-2000:] + run.stderr[-4000:]
    return run


@pytest.fixture(scope="module")
def city(make_folder: Callable[[str], Path], write_city: Callable[[Path, str], Path]) -> Path:
    return write_city(make_folder("city"), "medium")


@pytest.fixture(scope="module")
def labels(city: Path) -> Path:
    """Run Stage 1 and return the folder in the CUPS format."""
    options = stage1(city)
    for command in options.commands():
        _run(command.script, *command.arguments)
    assert options.labels is not None
    return options.labels


def stage1(city: Path) -> Stage1Options:
    """Stage 1 with networks that are trained for three steps."""
    windows = ("--window", "64", "--stride", "32")
    steps = ("--codebook_steps", "3", "--head_steps", "3", "--probe_steps", "3", "--codebook_size", "16")
    widths = ("--projection_dim", "16", "--hidden_dim", "16", "--batch_size", "2")
    return Stage1Options(
        city,
        backbone="texton",
        heads=city / "heads",
        num_workers=0,
        split="all",
        label_split="train",
        k=CLUSTERS,
        train_heads=True,
        source="disparity",
        labels=city / "cups_pseudo_labels",
        further={
            "train_cause": (*windows, *steps, *widths),
            "generate_semantic_pseudolabels_cause": windows,
            "generate_overclustered_semantics": (*windows, "--epochs", "1"),
            "classify_stuff_things": ("--num_things", "4"),
            "generate_depth_guided_instances": (
                *("--proposals", "objects", "--min_thing_share", "0.1", "--show", "1"),
            ),
        },
    )


def _training(city: Path, labels: Path, logs: Path, name: str, steps: int, *more: str) -> tuple[object, ...]:
    return (
        *(
            "--experiment_config_file",
            ROOT / "configs" / "demo_toy.yaml",
            "--disable_wandb",
            "--data_root",
            city,
        ),
        *("--pseudo_root", labels, "--log_path", logs, "--run_name", name, "--steps", steps, *more, *TINY),
    )


@pytest.fixture(scope="module")
def trained(city: Path, labels: Path, make_folder: Callable[[str], Path]) -> Path:
    """Train four steps without interruption; return the run's folder."""
    logs = make_folder("logs")
    _run("train.py", *_training(city, labels, logs, "whole", 4))
    return logs / "whole"


def test_stage_one__labels_are_label_free(city: Path, labels: Path) -> None:
    provenance = json.loads((labels / "provenance.json").read_text())
    assert provenance["uses_ground_truth"] is False
    assert len(list(labels.glob("*_leftImg8bit_semantic.png"))) == 6
    options = stage1(city)
    scores = options.panoptic_scores("scores", options.semantics, CLUSTERS, city / "scores")
    _run(scores.script, *scores.arguments)
    results = read_results(city / "scores.json")
    assert [result.void_rule for result in results] == ["standard", "upstream"]
    assert all(0 <= result.metrics["pq"] <= 1 for result in results)


def test_stage_one__a_second_run_does_nothing(city: Path, labels: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in labels.glob("*.png")}
    conversion = stage1(city).commands()[-1]
    assert "convert_to_cups_format" in conversion.script
    _run(conversion.script, *conversion.arguments)
    assert {path: path.stat().st_mtime_ns for path in labels.glob("*.png")} == before


def test_train__writes_what_the_readme_says(trained: Path) -> None:
    checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4
    assert checkpoint["hyper_parameters"]["provenance"]["uses_ground_truth"] is False
    assert (trained / "config.yaml").is_file()
    assert list(trained.glob("csv/version_*/metrics.csv"))
    assert list(trained.glob("media/step_*.png"))


def _run_and_kill(
    script: str, arguments: tuple[object, ...], sign: Path, python: str = sys.executable
) -> None:
    """Start a script and kill it (signal 9) as soon as a file exists; by a Python with another hash seed."""
    command = [python, str(ROOT / script), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not sign.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sign.exists()


def _assert_same_end(first: Path, second: Path, steps: int) -> None:
    """Both runs ended after `steps` steps with the same weights, of student and teacher."""
    one, two = (torch.load(path, weights_only=True) for path in (first, second))
    assert one["global_step"] == two["global_step"] == steps
    assert one["lr_schedulers"] == two["lr_schedulers"]
    assert one["state_dict"].keys() == two["state_dict"].keys()
    # Adam makes a whole step of a gradient that is nothing but rounding: a few weights may differ.
    weights = [(one["state_dict"][name], tensor) for name, tensor in two["state_dict"].items()]
    differ = sum(int((~torch.isclose(a, b, rtol=1e-4, atol=1e-5)).sum()) for a, b in weights)
    assert differ < 1e-4 * sum(b.numel() for _, b in weights)


def test_train__killed_and_resumed_ends_with_the_same_weights(
    city: Path, labels: Path, trained: Path, tmp_path: Path
) -> None:
    """Same steps, same draws, same learning rate: the interruption leaves no trace in the weights."""
    arguments = _training(city, labels, tmp_path, "killed", 4)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    _run_and_kill("train.py", arguments, last)
    _run("train.py", *arguments, "--resume")
    _assert_same_end(last, trained / "checkpoints" / "last.ckpt", 4)


SELF_TRAINING = (
    *("SELF_TRAINING.ROUNDS", "2", "SELF_TRAINING.ROUND_STEPS", "2", "SELF_TRAINING.SELECT_FRAMES", "1"),
    # A network after four steps is sure of nothing.
    *("MODEL.INFERENCE_CONFIDENCE_THRESHOLD", "0.02", "MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD", "0.02"),
    *("SELF_TRAINING.CONFIDENCE_STEP", "0.01", "SELF_TRAINING.EMA_MOMENTUM", "0.5"),
    *("MODEL.TTA_SCALES", "(0.5, 1.0)", "SELF_TRAINING.VAL_EVERY_N_STEPS", "1"),
    *("TRAINING.LOG_EVERY_N_STEPS", "1", "SELF_TRAINING.SELECT", "consistency"),
)


@pytest.fixture(scope="module")
def hybrid(city: Path, labels: Path, make_folder: Callable[[str], Path]) -> Path:
    """Run both stages without interruption; return the run's folder."""
    logs = make_folder("hybrid")
    _run("train_hybrid.py", *_training(city, labels, logs, "whole", 2, *SELF_TRAINING))
    return logs / "whole"


def test_train_hybrid__both_stages_in_one_run(hybrid: Path) -> None:
    folder = hybrid / "stage3" / "checkpoints"
    best, last = (torch.load(folder / name, weights_only=True) for name in ("best.ckpt", "last.ckpt"))
    assert last["global_step"] == 4
    provenance = best["hyper_parameters"]["provenance"]
    assert provenance["uses_ground_truth"] is provenance["stage2"]["uses_ground_truth"] is False
    assert provenance["checkpoint_choice"]["criterion"] == "consistency"
    assert set(provenance["checkpoint_choice"]["values"]) == {"before", "round_1", "round_2"}
    stage2 = torch.load(hybrid / "stage2" / "checkpoints" / "last.ckpt", weights_only=True)
    for key in ("thing_pseudo_classes", "stuff_pseudo_classes", "model"):
        assert best["hyper_parameters"][key] == stage2["hyper_parameters"][key]
    name = "sem_seg_head.predictor.weight"
    start, student = stage2["state_dict"][f"model.{name}"], last["state_dict"][f"model.{name}"]
    teacher = last["state_dict"][f"teacher_model.model.{name}"]
    assert not torch.equal(start, student) and not torch.equal(student, teacher)
    for prefer_teacher, expected in ((False, student), (True, teacher)):
        network, *_ = panoptic_cascade_mask_r_cnn_from_checkpoint(
            folder / "last.ckpt", prefer_teacher=prefer_teacher
        )
        assert torch.equal(network.state_dict()[name], expected)
    metrics = next((hybrid / "stage3").glob("csv/version_*/metrics.csv")).read_text()
    for key in ("round", "threshold", "instances", "void", "consistency"):
        assert f"self_training/{key}" in metrics


def test_train_hybrid__killed_in_each_round_ends_with_the_same_weights(
    city: Path, labels: Path, hybrid: Path, tmp_path: Path
) -> None:
    """Upstream cannot resume Stage 3 at all: its teacher's weights are unexpected keys."""
    run = tmp_path / "killed"
    # Stage 2 is that of the other run: only what follows is of interest.
    shutil.copytree(hybrid / "stage2", run / "stage2", symlinks=True)
    arguments = (*_training(city, labels, tmp_path, "killed", 2, *SELF_TRAINING), "--resume")
    ours, whole = (folder / "stage3" / "checkpoints" for folder in (run, hybrid))
    for step, python in ((1, sys.executable), (3, warm_python())):
        _run_and_kill("train_hybrid.py", arguments, ours / f"ups_checkpoint_step={step:06d}.ckpt", python)
    _run("train_hybrid.py", *arguments)
    _assert_same_end(ours / "last.ckpt", whole / "last.ckpt", 4)
    scores = [
        torch.load(folder / "best.ckpt", weights_only=True)["hyper_parameters"]["provenance"][
            "checkpoint_choice"
        ]["values"]
        for folder in (ours, whole)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_train_self__reads_images_alone(city: Path, trained: Path, tmp_path: Path) -> None:
    """No pseudo-label exists; the ground truth of the training split does not either."""
    data = tmp_path / "data"
    for part in ("leftImg8bit", "gtFine/val"):
        shutil.copytree(city / part, data / part)
    config = ("--experiment_config_file", ROOT / "configs" / "demo_toy.yaml", "--disable_wandb")
    run = ("--data_root", data, "--log_path", tmp_path, "--run_name", "run")
    short = ("SELF_TRAINING.ROUNDS", "1", "SELF_TRAINING.SELECT", "last")
    start = ("--checkpoint", trained / "checkpoints" / "last.ckpt")
    _run("train_self.py", *config, *run, *start, *TINY, *SELF_TRAINING, *short)
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    assert list((tmp_path / "run").glob("media/step_*.png"))
    refused = _run("train_self.py", *config, *run, expect=2)
    assert refused.stderr.strip().splitlines()[-1].startswith("error: MODEL.CHECKPOINT is not set")


def test_train__a_run_is_not_overwritten(city: Path, labels: Path, trained: Path) -> None:
    arguments = _training(city, labels, trained.parent, "whole", 4)
    run = _run("train.py", *arguments, expect=2)
    assert (
        run.stderr.strip()
        .splitlines()[-1]
        .endswith("holds a run already; add --resume, or choose another --run_name")
    )


def test_val__results_and_pictures(city: Path, trained: Path, tmp_path: Path) -> None:
    config = ("--experiment_config_file", ROOT / "configs" / "demo_toy.yaml")
    checkpoint = ("--checkpoint", trained / "checkpoints" / "last.ckpt")
    run = _run(
        "val.py", *config, "--data_root", city, *checkpoint, "--output_dir", tmp_path, "--visualize_results"
    )
    assert "standard" in run.stdout and "upstream" in run.stdout and "19 classes" in run.stdout
    assert read_results(tmp_path / "results.json")[0].provenance["uses_ground_truth"] is False
    assert (tmp_path / "results.csv").is_file()
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 3


def test_val__plain_folder_without_labels(city: Path, trained: Path, tmp_path: Path) -> None:
    checkpoint = ("--checkpoint", trained / "checkpoints" / "last.ckpt")
    images = city / "leftImg8bit" / "val"
    _run("val.py", "--image_dir", images, *checkpoint, "--output_dir", tmp_path)
    assert len(list((tmp_path / "overlays").rglob("*.png"))) == 3
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--data_root", "/nowhere"), "/nowhere"),
        (("--pseudo_root", "/nowhere"), "/nowhere: no such folder"),
        (("TRAINING.STEPZ", "1"), "did you mean TRAINING.STEPS?"),
        (("--checkpoint", "/nowhere.ckpt"), "/nowhere.ckpt"),
    ],
)
def test_train__bad_input_is_one_line_and_exit_code_two(
    city: Path, labels: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    arguments = _training(city, labels, tmp_path, "bad", 2)
    run = _run("train.py", *arguments, *change, expect=2)
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "bad").exists(), "nothing half-written"


def test_train__checkpoint_of_another_class_count(
    city: Path, labels: Path, trained: Path, tmp_path: Path
) -> None:
    other = tmp_path / "labels"
    subprocess.run(["cp", "-r", labels, other], check=True)
    statistics = next(other.glob("*.pt"))
    counts = torch.load(statistics, weights_only=True)
    torch.save({key: torch.cat((value, torch.ones(3))) for key, value in counts.items()}, statistics)
    split = json.loads((other / "thing_stuff_split.json").read_text())
    more = [CLUSTERS + number for number in range(3)]
    (other / "thing_stuff_split.json").write_text(json.dumps({**split, "stuffs": [*split["stuffs"], *more]}))
    start = ("--checkpoint", str(trained / "checkpoints" / "last.ckpt"))
    run = _run("train.py", *_training(city, other, tmp_path, "other", 2, *start), expect=2)
    assert "last.ckpt" in run.stderr and "pseudo-classes" in run.stderr


def test_demo__steps_are_the_documented_scripts() -> None:
    """The demo runs the very scripts of the README, and they exist."""
    steps = demo_steps(Path("out"), workers=1, seed=0)
    files = [step.script for step in steps if step.script.endswith(".py")]
    assert all((ROOT / file).is_file() for file in files)
    assert files[-4:] == ["train.py", "val.py", "train_self.py", "val.py"]
