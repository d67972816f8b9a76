"""Depth from Cityscapes disparity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.ops.png import read_ids, write_png
from cups.provenance import read_provenance
from pseudo_labels.generate_depth_spidepth import Camera, depth_from_disparity, fill_unknown, main


def test_depth_from_disparity__baseline_times_focal_over_disparity() -> None:
    disparity = np.array([[10.0, 20.0, 0.0]], np.float32)
    depth = depth_from_disparity(disparity, np.ones((1, 3), bool), Camera(1000.0, 0.2), 0.5, 80.0)
    assert depth.tolist() == [[20.0, 10.0, 80.0]], "zero disparity is the horizon, clipped"
    assert depth.dtype == np.float16


def test_fill_unknown__takes_the_farther_neighbour_of_the_row() -> None:
    # 0 = unknown. The hole between a near (40) and a far (8) surface is background; the empty row copies.
    disparity = np.array([[40, 9, 9, 8], [40, 0, 0, 8], [0, 0, 0, 0], [0, 5, 0, 0]], np.float32)
    filled = fill_unknown(disparity, disparity > 0)
    assert filled.tolist() == [[40, 9, 9, 8], [40, 8, 8, 8], [40, 8, 8, 8], [5, 5, 5, 5]]


def test_fill_unknown__sky_is_far_the_blind_side_is_not() -> None:
    # Column 0 is unknown all the way down: the side that only one camera sees. Column 1 begins with sky above
    # a roof (6); the gap below the roof belongs to the wall behind (7) again.
    known = [[0, 0, 7], [0, 0, 7], [0, 6, 7], [0, 6, 7], [0, 0, 7], [0, 0, 3]]
    disparity = np.array(known, np.float32)
    filled = fill_unknown(disparity, disparity > 0)
    assert filled[:, 1].tolist() == [0, 0, 6, 6, 7, 3]
    assert filled[2:4, 0].tolist() == [6, 6] and filled[4:, 0].tolist() == [7, 3]


def run(root: Path, *more: str) -> int:
    return main(["--cityscapes_root", str(root), "--source", "disparity", *more])


def test_main__writes_metres_and_label_free_provenance(tiny_root: Any) -> None:
    assert run(tiny_root.path) == 0
    depth = np.load(tiny_root.file("depth_spidepth", f"{tiny_root.stems[0]}.npy"))
    assert depth.dtype == np.float16 and depth.shape == (64, 128)
    # The near car stands 6.5 m away; the wall behind it was rendered at 30 m.
    assert depth[40, 90] == pytest.approx(6.5, rel=0.01)
    assert depth[5, 5] == pytest.approx(30.0, rel=0.01)
    provenance = read_provenance(tiny_root.path / "depth_spidepth")
    assert provenance is not None and provenance["uses_ground_truth"] is False


def test_main__resumes_and_repairs_a_cut_file(tiny_root: Any) -> None:
    run(tiny_root.path)
    first, second = (tiny_root.file("depth_spidepth", f"{stem}.npy") for stem in tiny_root.stems)
    expected, kept = np.load(second), first.stat().st_mtime_ns
    second.write_bytes(second.read_bytes()[:200])
    run(tiny_root.path)
    assert (np.load(second) == expected).all()
    assert first.stat().st_mtime_ns == kept


def damage_camera(root: Any) -> str:
    path = root.file("camera", f"{root.stems[0]}_camera.json")
    path.write_text(json.dumps({"intrinsic": {"fx": 100.0}}))
    return path.name


def remove_camera(root: Any) -> str:
    path = root.file("camera", f"{root.stems[1]}_camera.json")
    path.unlink()
    return path.name


def remove_disparity(root: Any) -> str:
    path = root.file("disparity", f"{root.stems[0]}_disparity.png")
    path.unlink()
    return path.name


def truncate_disparity(root: Any) -> str:
    path = root.file("disparity", f"{root.stems[0]}_disparity.png")
    path.write_bytes(path.read_bytes()[:-30])
    return path.name


def narrow_disparity(root: Any) -> str:
    path = root.file("disparity", f"{root.stems[0]}_disparity.png")
    write_png(path, read_ids(path).astype(np.uint8))
    return path.name


def empty_disparity(root: Any) -> str:
    path = root.file("disparity", f"{root.stems[0]}_disparity.png")
    write_png(path, np.zeros((64, 128), np.uint16))
    return path.name


@pytest.mark.parametrize(
    "damage",
    [
        damage_camera,
        remove_camera,
        remove_disparity,
        truncate_disparity,
        narrow_disparity,
        empty_disparity,
    ],
)
def test_main__bad_input_is_named(tiny_root: Any, damage: Any) -> None:
    name = damage(tiny_root)
    with pytest.raises(UserError, match=name):
        run(tiny_root.path)


def test_main__network_source_says_what_to_do(tiny_root: Any) -> None:
    with pytest.raises(UserError, match="use --source disparity"):
        main(["--cityscapes_root", str(tiny_root.path), "--source", "spidepth"])


def test_main__disparity_of_a_plain_folder_is_refused(tiny_root: Any, tmp_path: Path) -> None:
    folder = str(tiny_root.path / "leftImg8bit")
    with pytest.raises(UserError, match="--cityscapes_root"):
        main(["--image_dir", folder, "--output_root", str(tmp_path), "--source", "disparity"])
