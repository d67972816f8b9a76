"""Reading Cityscapes ground truth and the validation data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.data import CityscapesPanopticValidation, ImageFolder
from cups.data.cityscapes import read_panoptic_target
from cups.errors import UserError
from cups.io.png import write_png
from cups.taxonomy import class_set

STEM = "ulm_000000_000001"


def _write(root: Path, labels: np.ndarray, instances: np.ndarray) -> tuple[Path, Path]:
    folder = root / "gtFine" / "val" / "ulm"
    paths = folder / f"{STEM}_gtFine_labelIds.png", folder / f"{STEM}_gtFine_instanceIds.png"
    write_png(paths[0], labels.astype(np.uint8))
    write_png(paths[1], instances.astype(np.uint16))
    image = np.zeros((*labels.shape, 3), np.uint8)
    image[..., 0] = labels
    write_png(root / "leftImg8bit" / "val" / "ulm" / f"{STEM}_leftImg8bit.png", image)
    return paths


def test_read_panoptic_target__objects_groups_stuff_and_void(tmp_path: Path) -> None:
    #              road  car 0  car 1  car group  parking  ego vehicle  licence plate (-1)
    labels = np.array([[7, 26, 26, 26, 9, 1, 255]])
    instances = np.array([[7, 26000, 26001, 26, 9, 1, 255]])
    target = read_panoptic_target(*_write(tmp_path, labels, instances), class_set(19))
    assert target.pairs[0].tolist() == [[0, 0], [13, 1], [13, 2], [13, 0], [255, 0], [255, 0], [255, 0]]
    target = read_panoptic_target(*_write(tmp_path, labels, instances), class_set(27))
    assert target.categories[0].tolist() == [0, 19, 19, 19, 2, 255, 255]


def test_read_panoptic_target__an_image_full_of_objects_loses_none(tmp_path: Path) -> None:
    """Upstream takes the smallest id for background: without a zero in the map an object vanishes."""
    labels = np.array([[26, 26, 24]])
    target = read_panoptic_target(*_write(tmp_path, labels, np.array([[26000, 26001, 24000]])), class_set(19))
    assert sorted(target.instances[0].tolist()) == [1, 2, 3]


def test_read_panoptic_target__sizes_must_agree(tmp_path: Path) -> None:
    paths = _write(tmp_path, np.zeros((4, 4)), np.zeros((4, 5)))
    with pytest.raises(UserError, match=r"instanceIds\.png: size"):
        read_panoptic_target(*paths, class_set(19))


def test_validation__scale_and_crop_move_image_and_target_alike(tmp_path: Path) -> None:
    labels = np.full((32, 64), 7)
    labels[8:24, 16:48] = 26
    _write(tmp_path, labels, np.where(labels == 26, 26000, labels))
    whole = CityscapesPanopticValidation(tmp_path)[0]
    assert whole.name == STEM and whole.image.shape == (3, 32, 64)
    item = CityscapesPanopticValidation(tmp_path, scale=0.5, crop=(12, 40))[0]
    image, target = item.image, item.ground_truth()
    assert image.shape == (3, 12, 40) and target.shape == (12, 40)
    assert np.array_equal(image[0].numpy() > 0.06, target.categories == 13)
    assert (target.categories[:, :4] == 255).all(), "padding is void"


def test_validation__bad_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leftImg8bit/val: no such folder"):
        CityscapesPanopticValidation(tmp_path)
    (tmp_path / "leftImg8bit" / "val").mkdir(parents=True)
    with pytest.raises(UserError, match="check the data set"):
        CityscapesPanopticValidation(tmp_path)
    write_png(tmp_path / "leftImg8bit/val/ulm" / f"{STEM}_leftImg8bit.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match=r"labelIds\.png: no such file"):
        CityscapesPanopticValidation(tmp_path)


def test_image_folder__names_keep_subfolders(tmp_path: Path) -> None:
    write_png(tmp_path / "a" / "one.png", np.full((4, 6, 3), 255, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    data = ImageFolder(tmp_path)
    assert len(data) == 1 and data[0].name == "a/one"
    assert data[0].image.shape == (3, 4, 6) and float(data[0].image.max()) == 1.0
    with pytest.raises(UserError, match="holds no"):
        ImageFolder(tmp_path / "a" / "..", max_images=0)
    with pytest.raises(UserError, match="no such folder"):
        ImageFolder(tmp_path / "none")
