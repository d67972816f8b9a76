"""The pipeline on a tiny rendered city: every script as its user calls it, and a training that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cups.data.toy_streets import write_dataset
from cups.reporting import read_results

ROOT = Path(__file__).resolve().parents[1]
CLUSTERS = 12
SEMANTICS = ("--semantic_subdir", f"pseudo_semantic_raw_k{CLUSTERS}")
CLASSES = ("--num_semantic_classes", str(CLUSTERS))
TINY = (
    *("SYSTEM.NUM_WORKERS", "0", "TRAINING.PRECISION", "32", "TRAINING.VAL_EVERY_N_STEPS", "2"),
    *("DATA.CROP_RESOLUTION", "(96, 192)", "AUGMENTATION.RESOLUTIONS", "((96, 192), (64, 128))"),
    *("TRAINING.DECAY", "constant", "TRAINING.LOG_MEDIA_N_STEPS", "2"),
)


def _run(script: str, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script from another folder than the repository's, as an installed user may."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent, timeout=600, check=False)
    assert run.returncode == expect, run.stdout[-2000:] + run.stderr[-4000:]
    return run


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("city")
    write_dataset(root, train_frames=6, val_frames=3, height=96, width=192, workers=1, progress=False)
    return root


@pytest.fixture(scope="module")
def labels(city: Path) -> Path:
    """Run Stage 1 and return the folder in the CUPS format."""
    folder = city / "cups_pseudo_labels"
    root = ("--cityscapes_root", city)
    heads = ("--backbone", "texton", "--checkpoint_dir", city / "heads", "--window", "64", "--stride", "32")
    steps = ("--codebook_steps", 3, "--head_steps", 3, "--probe_steps", 3, "--codebook_size", 16)
    widths = ("--projection_dim", 16, "--hidden_dim", 16, "--batch_size", 2)
    stage1 = "pseudo_labels"
    _run(f"{stage1}/generate_depth_spidepth.py", *root, "--split", "all", "--source", "disparity")
    _run(f"{stage1}/train_cause.py", *root, *heads, *steps, *widths)
    _run(f"{stage1}/generate_semantic_pseudolabels_cause.py", *root, "--split", "all", *heads)
    _run(
        f"{stage1}/generate_overclustered_semantics.py",
        *(*root, "--split", "all", *heads, "--k", CLUSTERS, "--raw", "--epochs", 1),
    )
    _run(f"{stage1}/classify_stuff_things.py", *root, *SEMANTICS, "--num_things", 4)
    instances = ("--proposals", "objects", "--min_area", 20, "--min_thing_share", 0.1, "--show", 1)
    _run(f"{stage1}/generate_depth_guided_instances.py", *root, "--split", "all", *SEMANTICS, *instances)
    _run(f"{stage1}/convert_to_cups_format.py", *root, *SEMANTICS, *CLASSES, "--output_dir", folder)
    return folder


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
def trained(city: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train four steps without interruption; return the run's folder."""
    logs = tmp_path_factory.mktemp("logs")
    _run("train.py", *_training(city, labels, logs, "whole", 4))
    return logs / "whole"


def test_stage_one__labels_are_label_free(city: Path, labels: Path) -> None:
    provenance = json.loads((labels / "provenance.json").read_text())
    assert provenance["uses_ground_truth"] is False
    assert len(list(labels.glob("*_leftImg8bit_semantic.png"))) == 6
    _run(
        "pseudo_labels/evaluation/evaluate_pseudolabels.py",
        *("--cityscapes_root", city, *SEMANTICS, *CLASSES, "--results", city / "scores"),
    )
    results = read_results(city / "scores.json")
    assert [result.void_rule for result in results] == ["standard", "upstream"]
    assert all(0 <= result.metrics["pq"] <= 1 for result in results)


def test_stage_one__a_second_run_does_nothing(city: Path, labels: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in labels.glob("*.png")}
    _run(
        "pseudo_labels/convert_to_cups_format.py",
        *("--cityscapes_root", city, *SEMANTICS, *CLASSES, "--output_dir", labels),
    )
    assert {path: path.stat().st_mtime_ns for path in labels.glob("*.png")} == before


def test_train__writes_what_the_readme_says(trained: Path) -> None:
    checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4
    assert checkpoint["hyper_parameters"]["provenance"]["uses_ground_truth"] is False
    assert (trained / "config.yaml").is_file()
    assert list(trained.glob("csv/version_*/metrics.csv"))
    assert list(trained.glob("media/step_*.png"))


def test_train__killed_and_resumed_ends_with_the_same_weights(
    city: Path, labels: Path, trained: Path, tmp_path: Path
) -> None:
    """Same steps, same draws, same learning rate: the interruption leaves no trace in the weights."""
    arguments = _training(city, labels, tmp_path, "killed", 4)
    command = [sys.executable, str(ROOT / "train.py"), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists()
    _run("train.py", *arguments, "--resume")
    resumed = torch.load(last, weights_only=True)
    whole = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    assert resumed["global_step"] == whole["global_step"] == 4
    assert resumed["lr_schedulers"] == whole["lr_schedulers"]
    # Adam makes a whole step of a gradient that is nothing but rounding: a few weights may differ.
    weights = [(resumed["state_dict"][name], tensor) for name, tensor in whole["state_dict"].items()]
    differ = sum(int((~torch.isclose(a, b, rtol=1e-4, atol=1e-5)).sum()) for a, b in weights)
    assert differ < 1e-4 * sum(b.numel() for _, b in weights)


def test_train__a_run_is_not_overwritten(city: Path, labels: Path, trained: Path) -> None:
    arguments = _training(city, labels, trained.parent, "whole", 4)
    run = _run("train.py", *arguments, expect=2)
    assert (
        run.stderr.strip()
        .splitlines()[-1]
        .endswith("holds a run already; add --resume, or choose another --run_name")
    )


def test_val__results_and_pictures(city: Path, trained: Path, tmp_path: Path) -> None:
    config = ("--experiment_config_file", ROOT / "configs" / "demo_toy.yaml", "--disable_wandb")
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
    _run("val.py", "--disable_wandb", "--image_dir", images, *checkpoint, "--output_dir", tmp_path)
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
    start = ("--checkpoint", str(trained / "checkpoints" / "last.ckpt"))
    run = _run("train.py", *_training(city, other, tmp_path, "other", 2, *start), expect=2)
    assert "last.ckpt" in run.stderr and "pseudo-classes" in run.stderr


def test_demo__steps_are_the_documented_scripts() -> None:
    """The demo runs the very scripts of the README, and they exist."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from demo import demo_steps
    finally:
        sys.path.pop(0)
    steps = demo_steps(Path("out"), workers=1, seed=0)
    files = [step.script for step in steps if step.script.endswith(".py")]
    assert all((ROOT / file).is_file() for file in files)
    assert files[-2:] == ["train.py", "val.py"]
