"""Instances split along depth edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cups.errors import UserError
from cups.io.png import read_ids, write_png
from pseudo_labels.generate_depth_guided_instances import main
from tests.pseudo_labels.conftest import write_stereo_depth


def test_object_instances__masks_come_from_depth(tiny_root: Any) -> None:
    # The semantics are blurred: things spill 3 pixels around the cars. The masks do not follow.
    write_stereo_depth(tiny_root)
    for stem in tiny_root.stems:
        path = tiny_root.file("pseudo_semantic_mapped_k300", f"{stem}.png")
        cars = cv2.dilate((read_ids(path) == 13).astype(np.uint8), np.ones((7, 7), np.uint8))
        write_png(path, cars * 13)
    run(tiny_root.path, "--proposals", "objects")
    truth = read_ids(tiny_root.file("gtFine", f"{tiny_root.stems[0]}_gtFine_instanceIds.png"))
    found = read_ids(tiny_root.file("pseudo_instance_depth_guided_mapped_k300", f"{tiny_root.stems[0]}.png"))
    assert found.max() == 2
    for number in (26000, 26001):
        mask = truth == number
        best = found == np.bincount(found[mask]).argmax()
        assert (best & mask).sum() / (best | mask).sum() > 0.9


def test_main__objects_without_depth_are_refused(tiny_root: Any) -> None:
    with pytest.raises(UserError, match="`proposals` objects"):
        run(tiny_root.path, "--proposals", "objects", "--no_depth")


@pytest.mark.parametrize(
    "flags",
    [
        ("--grad_threshold", "0"),
        ("--depth_blur", "0.3"),
        ("--min_area", "0"),
        ("--dilation", "-1"),
        ("--sigma", "-0.5"),
        ("--min_thing_share", "0"),
        ("--min_thing_share", "1.5"),
    ],
)
def test_main__impossible_settings_are_named(tiny_root: Any, flags: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=f"^`{flags[0][2:]}` "):
        run(tiny_root.path, "--no_depth", *flags)
    assert not (tiny_root.path / "pseudo_instance_cc_mapped_k300").exists()


def run(root: Path, *more: str) -> int:
    folder = ("--semantic_subdir", "pseudo_semantic_mapped_k300")
    return main(["--cityscapes_root", str(root), *folder, *more])


def test_main__finds_both_cars_where_components_find_one(tiny_root: Any) -> None:
    write_stereo_depth(tiny_root)
    run(tiny_root.path)
    run(tiny_root.path, "--no_depth")
    name = f"{tiny_root.stems[0]}.png"
    assert read_ids(tiny_root.file("pseudo_instance_depth_guided_mapped_k300", name)).max() == 2
    assert read_ids(tiny_root.file("pseudo_instance_cc_mapped_k300", name)).max() == 1


def test_main__same_bytes_with_workers(tiny_root: Any) -> None:
    run(tiny_root.path, "--no_depth")
    run(tiny_root.path, "--no_depth", "--method_name", "twice", "--num_workers", "2")
    for stem in tiny_root.stems:
        first = tiny_root.file("pseudo_instance_cc_mapped_k300", f"{stem}.png").read_bytes()
        assert tiny_root.file("pseudo_instance_twice", f"{stem}.png").read_bytes() == first


def test_main__split_file_in_the_folder_decides(tiny_root: Any) -> None:
    path = tiny_root.path / "pseudo_semantic_mapped_k300" / "thing_stuff_split.json"
    path.write_text(json.dumps({"things": [2], "stuffs": [0, 13]}))
    run(tiny_root.path, "--no_depth")
    instances = read_ids(tiny_root.file("pseudo_instance_cc_mapped_k300", f"{tiny_root.stems[0]}.png"))
    assert instances[2, 2] == 1 and instances[40, 90] == 0


def test_main__a_resumed_run_refuses_another_split(tiny_root: Any) -> None:
    # Otherwise old files would stay, made for other things than the new ones.
    run(tiny_root.path, "--no_depth")
    path = tiny_root.path / "pseudo_semantic_mapped_k300" / "thing_stuff_split.json"
    path.write_text(json.dumps({"things": [2], "stuffs": [0, 13]}))
    with pytest.raises(UserError, match="`overwrite`"):
        run(tiny_root.path, "--no_depth")


def test_main__missing_depth_names_the_step(tiny_root: Any) -> None:
    with pytest.raises(UserError, match=r"depth_spidepth.*generate_depth_spidepth\.py"):
        run(tiny_root.path)


def test_main__unknown_things_of_raw_clusters(tiny_root: Any) -> None:
    (tiny_root.path / "pseudo_semantic_mapped_k300").rename(tiny_root.path / "pseudo_semantic_raw_k50")
    with pytest.raises(UserError, match=r"classify_stuff_things\.py"):
        run(tiny_root.path, "--no_depth", "--semantic_subdir", "pseudo_semantic_raw_k50")


def test_main__depth_of_another_shape_is_refused(tiny_root: Any) -> None:
    write_stereo_depth(tiny_root)
    path = tiny_root.file("pseudo_semantic_mapped_k300", f"{tiny_root.stems[1]}.png")
    write_png(path, np.zeros((64, 100), np.uint8))
    with pytest.raises(UserError, match=rf"{tiny_root.stems[1]}.npy: 64x128 .* 64x100"):
        run(tiny_root.path)


@pytest.mark.parametrize("value", [np.nan, 0.0, -3.0])
def test_main__impossible_depth_is_refused(tiny_root: Any, value: float) -> None:
    write_stereo_depth(tiny_root)
    path = tiny_root.file("depth_spidepth", f"{tiny_root.stems[0]}.npy")
    depth = np.load(path)
    depth[3, 4] = value
    np.save(path, depth)
    with pytest.raises(UserError, match=f"{tiny_root.stems[0]}.npy: depth must be positive"):
        run(tiny_root.path)


def test_main__truncated_semantics_are_named(tiny_root: Any) -> None:
    path = tiny_root.file("pseudo_semantic_mapped_k300", f"{tiny_root.stems[0]}.png")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="truncated"):
        run(tiny_root.path, "--no_depth")


@pytest.mark.parametrize("rows", [512, 64])
def test_main__files_of_0_2_are_resumed_where_areas_mean_the_same(tiny_root: Any, rows: int) -> None:
    """Its `min_area` counted pixels of the label files: numbers alike were areas apart."""
    for stem in tiny_root.stems:
        path = tiny_root.file("pseudo_semantic_mapped_k300", f"{stem}.png")
        write_png(path, np.kron(read_ids(path), np.ones((rows // 64, rows // 64), np.uint8)))
    flags = ("--no_depth", "--min_area", "1000", "--dilation", "3")
    run(tiny_root.path, *flags)
    path = tiny_root.path / "pseudo_instance_cc_mapped_k300" / "provenance.json"
    content = json.loads(path.read_text())
    del content["arguments"]["edge"]
    path.write_text(json.dumps(content))
    if rows == 512:
        assert run(tiny_root.path, *flags) == 0
    else:
        with pytest.raises(UserError, match=r"version 0\.2.*`overwrite`"):
            run(tiny_root.path, *flags)
        assert run(tiny_root.path, *flags, "--overwrite") == 0
