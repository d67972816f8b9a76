"""Instances of NPZ masks are read wherever PNG ids are, and overlaps go to the higher score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.png import write_png
from pseudo_labels.inputs.instances import found_instances, ids_of_masks, instance_inputs, read_instances
from pseudo_labels.inputs.labels import read_pair
from pseudo_labels.steps.frames import Frame

FRAME = Frame("aachen_000000_000019", Path("train/aachen"), Path("image.png"))


def masks() -> np.ndarray:
    """Three masks of 4 x 8: left half, a column across it, and one under the left half."""
    made = np.zeros((3, 4, 8), dtype=bool)
    made[0, :, :4] = True
    made[1, :, 3:6] = True
    made[2, 1:3, 1:3] = True
    return made


EXPECTED = np.array([[2, 2, 2, 1, 1, 1, 0, 0]] * 4, dtype=np.uint16)
"""Scores 0.5, 0.9, 0.1: the column first, the left half second, nothing left for the third."""


def save(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def test_ids_of_masks__score_and_order_decide() -> None:
    assert np.array_equal(ids_of_masks(masks(), np.array([0.5, 0.9, 0.1])), EXPECTED)
    equal = ids_of_masks(masks(), np.zeros(3))
    assert np.array_equal(equal[0], [1, 1, 1, 1, 2, 2, 0, 0]) and equal.max() == 2
    unknown_last = ids_of_masks(masks(), np.array([np.nan, 0.9, 0.1]))
    assert unknown_last[0, 0] == 3 and unknown_last[1, 1] == 2


def test_read_instances__flat_masks_with_sizes(tmp_path: Path) -> None:
    """As the published scripts wrote them: (N, h * w), `num_valid`, `h_patches`, `w_patches`."""
    padded = np.concatenate((masks().reshape(3, -1), np.ones((2, 32), dtype=bool)))
    scores = np.array([0.5, 0.9, 0.1, 1.0, 1.0], dtype=np.float32)
    path = save(tmp_path / "a.npz", masks=padded, scores=scores, num_valid=3, h_patches=4, w_patches=8)
    assert np.array_equal(read_instances(path), EXPECTED)
    doubled = read_instances(path, (8, 16))
    assert doubled.dtype == np.uint16 and np.array_equal(doubled, EXPECTED.repeat(2, 0).repeat(2, 1))
    assert read_instances(path, (8, 8)).shape == (4, 8)  # another shape is for the caller to refuse
    empty = save(tmp_path / "b.npz", masks=np.zeros((0, 32), bool), num_valid=0, h_patches=4, w_patches=8)
    assert not read_instances(empty).any() and read_instances(empty).shape == (4, 8)


@pytest.mark.parametrize("ending", [".npz", "_leftImg8bit.npz"])
def test_instance_inputs__every_ending_is_found(ending: str, tmp_path: Path) -> None:
    folder = instance_inputs(tmp_path, "pseudo_instance_spidepth")
    with pytest.raises(UserError, match="no such folder; make them"):
        folder.require([FRAME], "make them")
    there = save(tmp_path / folder.name / FRAME.relative / f"{FRAME.stem}{ending}", masks=masks())
    folder.require([FRAME], "make them")
    assert folder.path(FRAME) == there and folder.exists(FRAME)
    ours = there.with_name(f"{FRAME.stem}.png")
    write_png(ours, EXPECTED)
    assert folder.path(FRAME) == ours


def test_read_pair__masks_come_to_the_size_of_the_semantics(tmp_path: Path) -> None:
    semantic = np.zeros((8, 16), dtype=np.uint8)
    write_png(tmp_path / "a.png", semantic)
    path = save(tmp_path / "a.npz", masks=masks(), scores=np.array([0.5, 0.9, 0.1]))
    assert np.array_equal(read_pair(tmp_path / "a.png", path)[1], EXPECTED.repeat(2, 0).repeat(2, 1))
    write_png(tmp_path / "square.png", semantic[:, :8])
    with pytest.raises(UserError, match=r"a\.npz: size 4x8, but square\.png is 8x8"):
        read_pair(tmp_path / "square.png", path)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"scores": np.ones(3)}, "holds no array masks"),
        ({"masks": masks().reshape(3, -1)}, "do not fit together"),
        ({"masks": masks().reshape(3, -1), "h_patches": 4, "w_patches": 9}, "do not fit together"),
        ({"masks": masks(), "num_valid": 4}, "do not fit together"),
        ({"masks": masks(), "scores": np.ones(2)}, "do not fit together"),
        ({"masks": masks()[0, 0]}, "do not fit together"),
        ({"masks": np.array([None])}, "unreadable arrays"),
    ],
)
def test_read_instances__bad_files(arrays: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"bad\.npz: .*{reason}"):
        read_instances(save(tmp_path / "bad.npz", **arrays))


def test_read_instances__damaged_file(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.npz", masks=masks())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"cut\.npz: unreadable arrays"):
        read_instances(path)
    with pytest.raises(UserError, match=r"none\.npz: no such file"):
        read_instances(tmp_path / "none.npz")


def test_found_instances__the_first_versions_folder_where_there_is_no_other(tmp_path: Path) -> None:
    default = "pseudo_instance_depth_guided_raw_k300"
    assert found_instances(tmp_path, None, default).name == default
    (tmp_path / "pseudo_instance_depth_guided").mkdir()
    assert found_instances(tmp_path, None, default).name == "pseudo_instance_depth_guided"
    assert found_instances(tmp_path, "mine", default).name == "mine"
    (tmp_path / default).mkdir()
    assert found_instances(tmp_path, None, default).name == default
