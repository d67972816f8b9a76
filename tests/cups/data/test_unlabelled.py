"""Images without labels, for self-training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.data.unlabelled import UnlabelledImages
from cups.errors import UserError
from cups.io.png import write_png
from cups.structures import Draw
from tests.clips import make_clip


def _write(folder: Path, names: list[str], size: tuple[int, int] = (32, 64)) -> None:
    for number, name in enumerate(names):
        write_png(folder / name, np.full((*size, 3), number, dtype=np.uint8))


def images_of(
    root: Path,
    folder: str = "leftImg8bit",
    scale: float = 1.0,
    crop: tuple[int, int] = (1024, 2048),
    **options: Any,
) -> UnlabelledImages:
    """Return the images of a root, whole unless told otherwise."""
    return UnlabelledImages(root, folder, scale, crop, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _write(tmp_path / "leftImg8bit" / "train" / "ulm", [f"ulm_{i:06}_leftImg8bit.png" for i in range(9)])
    _write(tmp_path / "leftImg8bit" / "val" / "bonn", ["bonn_0_leftImg8bit.png"])
    _write(tmp_path / "leftImg8bit_sequence" / "train" / "ulm", ["ulm_7_leftImg8bit.png"])
    return tmp_path


def test_images__training_split_alone_scaled_and_cropped(root: Path) -> None:
    images = images_of(root, scale=0.5, crop=(16, 24))
    assert len(images) == 9
    item = images[Draw(frame=2, number=40)]
    assert item.name == "ulm_000002"
    assert tuple(item.image.shape) == (3, 16, 24)
    assert float(item.image.max()) == pytest.approx(2 / 255)
    assert len(images_of(root, "leftImg8bit_sequence")) == 1
    assert len(images_of(root, max_images=3)) == 3


def test_images__plain_folder(tmp_path: Path) -> None:
    for folder in ("here", "some/where"):
        _write(tmp_path / folder, ["a.png", "b.png"])
    images = images_of(tmp_path, crop=(32, 64))
    assert [images[i].name for i in range(4)] == ["here/a", "here/b", "some/where/a", "some/where/b"]


def test_images__of_a_video(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=4)
    images = images_of(clip, crop=(48, 64))
    assert [images[i].name for i in range(4)] == ["000000", "000001", "000002", "000003"]
    assert tuple(images[3].image.shape) == (3, 48, 64)


def test_hold_out__evenly_spread_and_never_trained_on(root: Path) -> None:
    train, held = images_of(root).hold_out(2)
    assert [name[4:10] for name, _ in held.images] == ["000000", "000008"]
    assert not set(train.images) & set(held.images) and len(train) + len(held) == 9
    assert len(images_of(root).hold_out(100)[1]) == 2, "at most a quarter"
    few = images_of(root, max_images=3)
    assert all(len(part) == 3 for part in few.hold_out(2)), "too few to do without one"


def test_images__bad_folders_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: no such folder; give the data root"):
        images_of(root / "none")
    other = tmp_path / "other"
    _write(other / "leftImg8bit_sequence" / "train" / "ulm", ["ulm_7_leftImg8bit.png"])
    with pytest.raises(UserError, match=r"set SELF_TRAINING\.IMAGES to leftImg8bit_sequence"):
        images_of(other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        images_of(tmp_path / "empty")
