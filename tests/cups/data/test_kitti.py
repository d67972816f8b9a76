"""KITTI panoptic layout: both label folders, Cityscapes ids, frames of different sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.builders.evaluation import build_validation_data
from cups.config import build_config
from cups.data import KittiPanopticValidation
from cups.errors import UserError
from cups.io.coco_panoptic import to_rgb
from cups.io.png import write_png

#                road  cars 1, 2  group  void
IDS = np.array([[7, 26001, 26002, 26, 0]]).repeat(4, axis=0).repeat(3, axis=1)
CLASSES = [0, 13, 13, 13, 255]


def write_kitti(root: Path, *, rgb: bool, sizes: tuple[int, ...] = (4, 5)) -> Path:
    """Write one frame per height in `sizes`; return the root."""
    folder = root / "validation"
    for number, height in enumerate(sizes):
        ids = np.resize(IDS, (height, IDS.shape[1]))
        name = f"00000{number}_10.png"
        write_png(folder / "images" / name, np.full((*ids.shape, 3), 40 * number, np.uint8))
        if rgb:
            write_png(folder / "annotations" / name, to_rgb(ids))
        else:
            write_png(folder / "cityscapes_instance_format" / name, ids.astype(np.uint16))
    return root


@pytest.mark.parametrize("rgb", [True, False])
def test_kitti__classes_objects_and_groups(tmp_path: Path, rgb: bool) -> None:
    item = KittiPanopticValidation(write_kitti(tmp_path, rgb=rgb))[0]
    target = item.ground_truth().pairs[0, ::3].tolist()
    assert [category for category, _ in target] == CLASSES
    assert [instance for _, instance in target] == [0, 1, 2, 0, 0], "a group has no number: a crowd"
    assert item.name == "000000_10" and item.image.shape == (3, 4, 15)


def test_kitti__from_config_with_a_crop_for_all_sizes(tmp_path: Path) -> None:
    write_kitti(tmp_path, rgb=False, sizes=(4, 6))
    pairs = ["DATA.DATASET", "kitti", "DATA.VAL_SCALE", "1.0", "DATA.VAL_CROP_RESOLUTION", "(5, 16)"]
    data = build_validation_data(build_config(None, pairs, {"data_root": str(tmp_path)}))
    assert [data[i].ground_truth().shape for i in range(2)] == [(5, 16)] * 2
    padded = data[0].ground_truth().categories
    assert (padded[-1] == 255).all() and padded[0, :15:3].tolist() == CLASSES


def test_kitti__bad_folders_and_ids(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images/\*\.png: no such files; unpack KITTI-panoptic-segmentation"):
        KittiPanopticValidation(tmp_path)
    write_kitti(tmp_path, rgb=True, sizes=(4,))
    write_png(tmp_path / "validation" / "images" / "x.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match=r"x\.png: no such file"):
        KittiPanopticValidation(tmp_path)
    (tmp_path / "validation" / "annotations").rename(tmp_path / "validation" / "other")
    with pytest.raises(UserError, match=r"format/\*\.png or \S*/annotations/\*\.png: no such files"):
        KittiPanopticValidation(tmp_path)


def test_kitti__ids_that_are_no_cityscapes_ids(tmp_path: Path) -> None:
    write_kitti(tmp_path, rgb=True, sizes=(4,))
    path = tmp_path / "validation" / "annotations" / "000000_10.png"
    write_png(path, to_rgb(np.full(IDS.shape, 300_000)))
    with pytest.raises(UserError, match="holds id 300, which cityscapes-19 does not name"):
        KittiPanopticValidation(tmp_path)[0]
