"""A checkpoint opened through the package's own face."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cups
from cups.builders.evaluation import load_for_evaluation
from cups.config import build_config
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint
from cups.io.png import write_png
from cups.model import panoptic_cascade_mask_r_cnn
from cups.network import split_of, working_size_of
from cups.structures import PseudoClasses

THINGS, STUFFS = 3, 4
SMALL = "Panoptic-Cascade-Mask-R-CNN-Small.yaml"
OVERRIDES = ["MODEL.FPN.OUT_CHANNELS", 32]


def _checkpoint(**stored: Any) -> Checkpoint:
    return Checkpoint(Path("stage2.ckpt"), {}, stored)


def test_split_of__stored_lists_or_the_published_numbering() -> None:
    split = split_of(
        _checkpoint(thing_pseudo_classes=[7, 2], stuff_pseudo_classes=[0, 1, 3]), PseudoClasses(2, 3)
    )
    assert (split.things, split.stuffs) == ((7, 2), (0, 1, 3))
    split = split_of(_checkpoint(), PseudoClasses(2, 3))
    assert (split.things, split.stuffs) == ((3, 4), (0, 1, 2))
    with pytest.raises(UserError, match="names 1 thing and 3 stuff"):
        split_of(_checkpoint(thing_pseudo_classes=[7], stuff_pseudo_classes=[0, 1, 3]), PseudoClasses(2, 3))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint as our trainer writes it."""
    torch.manual_seed(0)
    model = panoptic_cascade_mask_r_cnn(THINGS, STUFFS + 1, model_config=SMALL, model_overrides=OVERRIDES)
    stored = {
        "model": {"model_config": SMALL, "model_overrides": OVERRIDES},
        "thing_pseudo_classes": [6, 0, 2],
        "stuff_pseudo_classes": [1, 3, 4, 5],
    }
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": stored}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_load__a_network_ready_for_images(saved: Path) -> None:
    network = cups.load(saved, confidence_threshold=0.05)
    assert not network.model.training
    assert (network.split.things, network.split.stuffs) == ((6, 0, 2), (1, 3, 4, 5))
    (output,) = network([{"image": torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))}])
    ids, segments = output["panoptic_seg"]
    assert ids.shape == (48, 64) and not output["sem_seg"].requires_grad
    assert all(
        segment["category_id"] < (THINGS if segment["isthing"] else STUFFS + 1) for segment in segments
    )
    assert not network.model.combine_snap_to_regions
    assert network.model.combine_semantic_weight == 0
    other = cups.load(saved, snap_to_regions=True, semantic_weight=0.4).model
    assert other.combine_snap_to_regions and other.combine_semantic_weight == 0.4
    with pytest.raises(FrozenInstanceError):
        network.model = nn.Identity()  # type: ignore[misc]


def test_predict__file_array_and_pil_image_alike(saved: Path, tmp_path: Path) -> None:
    network = cups.load(saved, confidence_threshold=0.05, working_size=(48, 64))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    write_png(tmp_path / "photo.png", pixels)
    sources = (tmp_path / "photo.png", str(tmp_path / "photo.png"), pixels, Image.fromarray(pixels))
    first, *others = (network.predict(source) for source in sources)
    assert first.semantic.shape == first.instances.shape == (60, 80) and len(first.segments) > 0
    assert all((other.ids == first.ids).all() and other.segments == first.segments for other in others)
    for wrong, error in ((pixels / 255, TypeError), (pixels[..., 0], ValueError), (3, TypeError)):
        with pytest.raises(error, match="an image"):
            network.predict(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored", "size"),
    [
        ({"working_size": [192, 384], "model": {}}, (192, 384)),
        ({"config": {"DATA": {"CROP_RESOLUTION": [96, 192]}}, "model": {}}, (96, 192)),
        ({}, (640, 1280)),
        ({"model": {}}, None),
        ({"working_size": "large", "model": {}}, None),
    ],
)
def test_working_size_of__what_a_checkpoint_tells(
    stored: dict[str, Any], size: tuple[int, int] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Published checkpoints hold nothing; ours of before hold the configuration."""
    assert working_size_of(_checkpoint(**stored)) == size
    assert ("at their own size" in caplog.text) == (size is None)


def test_load__no_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.ckpt: no such file"):
        cups.load(tmp_path / "none.ckpt")


def test_version__is_that_of_pyproject() -> None:
    text = (Path(cups.__file__).parents[1] / "pyproject.toml").read_text()
    assert f'\nversion = "{cups.__version__}"\n' in text


def test_version__without_installation(tmp_path: Path) -> None:
    """`-S` leaves installed packages out, another folder the metadata of an editable one."""
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['__version__'])"
    file = str(Path(cups.__file__).parent / "version.py")
    command = [sys.executable, "-S", "-c", code, file]
    environment = {"PATH": os.environ["PATH"]}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "unknown\n"


@pytest.mark.parametrize("package", ["cups", "cups.backbones", "cups.data", "cups.metrics", "cups.config"])
def test_import__is_light(package: str) -> None:
    """torch takes seconds; a name of the face brings it when it is used."""
    code = f"import sys, {package}; print([n for n in ('torch', 'scipy', 'matplotlib') if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize("package", ["cups", "cups.backbones", "cups.data", "cups.metrics", "cups.model"])
def test_face__every_name_of_the_stub_can_be_imported(package: str) -> None:
    module = __import__(package, fromlist=["*"])
    assert module.__all__ and all(getattr(module, name) is not None for name in module.__all__)


def test_load__the_student_or_the_teacher_of_self_training(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved, weights_only=True)
    student = content["state_dict"]
    bias = "sem_seg_head.predictor.bias"
    teacher = {f"teacher_model.{name}": value.clone() for name, value in student.items()}
    teacher[f"teacher_model.model.{bias}"] += 1
    path = tmp_path / "best.ckpt"
    torch.save({**content, "state_dict": {**student, **teacher}}, path)
    wanted = student[f"model.{bias}"]
    for prefer, expected in ((False, wanted), (True, wanted + 1)):
        found = cups.load(path, prefer_teacher=prefer).model.state_dict()[bias]
        assert torch.equal(found, expected)
        config = build_config(None, ["MODEL.CHECKPOINT", str(path), "MODEL.USE_TEACHER", str(prefer)])
        evaluated = load_for_evaluation(config).model
        assert torch.equal(evaluated.state_dict()[bias].cpu(), expected)
