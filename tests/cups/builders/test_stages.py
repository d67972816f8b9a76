"""Both stages on a folder that holds images alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.builders.stages import Resume, run_both_stages, run_stage2, run_stage3
from cups.config import build_config
from cups.errors import UserError
from cups.io.file_names import ALL_PIXELS, INSIDE_INSTANCES, INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import write_png
from tests.cups.conftest import TINY

ROOT = Path(__file__).resolve().parents[3]
SIZES = ((48, 72), (48, 72), (72, 48), (96, 144), (48, 72))
"""One upright frame, one of twice the size: the canvas is that of the most frequent."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Frames of mixed sizes with labels of three pseudo-classes beside them: 2 is a thing."""
    rng = np.random.default_rng(0)
    counts = {ALL_PIXELS: torch.zeros(3), INSIDE_INSTANCES: torch.zeros(3)}
    for number, (height, width) in enumerate(SIZES):
        semantic = (np.indices((height, width))[0] > height // 2).astype(np.uint8)
        semantic[height // 4 : -height // 4, width // 4 : -width // 4] = 2
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        write_png(tmp_path / "photos" / f"{number}.png", image)
        write_png(tmp_path / "labels" / f"{number}{SEMANTIC_SUFFIX}", semantic)
        write_png(tmp_path / "labels" / f"{number}{INSTANCE_SUFFIX}", (semantic == 2).astype(np.uint8))
        counts[ALL_PIXELS] += torch.bincount(torch.from_numpy(semantic.flatten()), minlength=3)
    counts[INSIDE_INSTANCES][2] = counts[ALL_PIXELS][2]
    torch.save(counts, tmp_path / "labels" / "split_1.pt")
    return tmp_path / "photos"


def _config(photos: Path, steps: int = 1, **pairs: Any) -> Any:
    settings = {
        "MODEL.OVERRIDES": tuple(TINY),
        "SYSTEM.NUM_WORKERS": 0,
        "SYSTEM.WANDB": False,
        "TRAINING.WARMUP_STEPS": 0,
        "TRAINING.LOG_EVERY_N_STEPS": 1,
        "TRAINING.PRECISION": "32",
        "SELF_TRAINING.ROUNDS": 1,
        "SELF_TRAINING.ROUND_STEPS": 1,
        "DATA.SCALE": 0.625,
        "DATA.CROP_RESOLUTION": (640, 1280),
        **pairs,
    }
    flags = {
        "data_root": str(photos),
        "pseudo_root": str(photos.parent / "labels"),
        "log_path": str(photos.parent),
        "run_name": "run",
        "steps": steps,
        "val_every": 1,
    }
    flat = [part for pair in settings.items() for part in pair]
    return build_config(ROOT / "configs" / "demo_toy.yaml", flat, flags)


def _measures(run: Path) -> list[dict[str, str]]:
    with next(run.glob("csv/version_0/metrics.csv")).open() as file:
        return [row for row in csv.DictReader(file) if row.get("label_free/consistency")]


def _stored(run: Path) -> dict[str, Any]:
    parameters: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)[
        "hyper_parameters"
    ]
    return parameters


def _make_labels_anew(photos: Path) -> None:
    """Move the statistics of the labels, as other parameters of Stage 1 do: stuff 0, 1 becomes 1, 0."""
    path = photos.parent / "labels" / "split_1.pt"
    counts = torch.load(path, weights_only=True)
    counts[INSIDE_INSTANCES][0], counts[INSIDE_INSTANCES][1] = 1.0, 2.0
    counts[ALL_PIXELS][1] /= 2
    torch.save(counts, path)


def test_run_both_stages__images_alone(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both stages insisted on ground truth in the Cityscapes layout; Stage 3 lost the class weights.

    And resumed after labels were made anew, Stage 3 goes on as it began.
    """
    with caplog.at_level("INFO"):
        run_both_stages(_config(photos), Resume())
    two, three = (photos.parent / "run" / stage for stage in ("stage2", "stage3"))
    for run in (two, three):
        (row,) = _measures(run)
        assert 0 <= float(row["label_free/void"]) <= 1 and row["label_free/objects_per_image"]
        assert _stored(run)["working_size"] == [48, 72], "of the files, neither enlarged nor padded"
    for line in ("Stage 2: 2 images per optimiser step", "Stage 3: 2 images per optimiser step"):
        assert caplog.text.count(line) == 1
    weights = _stored(two)["model"]["class_weights"]
    assert len(weights) == 3 and len(set(weights)) > 1 and _stored(three)["model"]["class_weights"] == weights
    assert (three / "checkpoints" / "best.ckpt").is_file()
    _make_labels_anew(photos)
    run_both_stages(_config(photos, **{"SELF_TRAINING.ROUNDS": 2}), Resume(always=True))
    after = _stored(three)
    assert (three / "checkpoints" / "round_2.ckpt").is_file()
    assert (after["stuff_pseudo_classes"], after["model"]["class_weights"]) == ([0, 1], weights)


def test_run_stage2__resumed_with_labels_made_anew_the_split_holds(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The order of the classes moved with the statistics: each output had another meaning from then on."""
    run_stage2(_config(photos), Resume())
    before = _stored(photos.parent / "run")
    _make_labels_anew(photos)
    run_stage2(_config(photos, steps=2, **{"DATA.THING_STUFF_THRESHOLD": 0.2}), Resume(always=True))
    after = _stored(photos.parent / "run")
    assert "another order of pseudo-classes than when the network was trained" in caplog.text
    assert "THRESHOLD None -> 0.2 (no effect: the run keeps its split" in caplog.text
    assert after["stuff_pseudo_classes"] == before["stuff_pseudo_classes"] == [0, 1]
    assert after["model"]["class_weights"] == before["model"]["class_weights"], "the labels would move them"
    assert "its own class weights hold" in caplog.text


def test_run_both_stages__a_choice_by_ground_truth_is_refused_before_stage_two(photos: Path) -> None:
    with pytest.raises(UserError, match="take consistency"):
        run_both_stages(_config(photos, **{"SELF_TRAINING.SELECT": "val"}), Resume())
    assert not (photos.parent / "run").exists()


@pytest.mark.parametrize("run", [run_stage2, run_stage3, run_both_stages])
def test_run__a_second_one_under_the_same_name_is_refused(
    tmp_path: Path,
    foreign_writer: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[Any, Resume], None],
) -> None:
    """Both once went to their end, each over the other's checkpoints."""
    foreign_writer(tmp_path / ".run.writer")
    config = build_config(None, (), {"log_path": str(tmp_path), "run_name": "run"})
    with pytest.raises(UserError, match=r"process 1 on .* since 2026-01-01 .*, or choose another `run_name`"):
        run(config, Resume())
    monkeypatch.setenv("LOCAL_RANK", "1")  # of a run whose first process holds the folder
    with pytest.raises(UserError) as other:
        run(config, Resume())
    assert "writes here" not in str(other.value)


def test_resume__if_possible_wherever_there_are_checkpoints(tmp_path: Path) -> None:
    """Without `last.ckpt` it started afresh over the others."""
    resume = Resume(if_possible=True)
    assert not resume.of(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").symlink_to("gone.ckpt")
    assert resume.of(tmp_path)
