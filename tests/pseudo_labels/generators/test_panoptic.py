"""Merging into COCO panoptic PNG and JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.coco_panoptic import from_rgb
from cups.io.png import read_ids, read_image, write_png
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.generate_panoptic_pseudolabels import main


def run(root: Any, *more: str) -> int:
    folders = [
        "--semantic_subdir",
        "pseudo_semantic_mapped_k300",
        "--instance_subdir",
        "pseudo_instance_cc_mapped_k300",
    ]
    return main(["--cityscapes_root", str(root.path), *folders, *more])


def components(root: Any) -> None:
    semantics = ("--semantic_subdir", "pseudo_semantic_mapped_k300")
    make_instances(["--cityscapes_root", str(root.path), *semantics, "--no_depth", "--min_area", "20"])


def test_main__png_and_json_agree(tiny_root: Any) -> None:
    components(tiny_root)
    run(tiny_root, "--shard", "1", "--num_shards", "2")
    run(tiny_root, "--shard", "0", "--num_shards", "2")
    folder = tiny_root.path / "pseudo_panoptic_depth_guided_mapped_k300"
    content = json.loads((folder / "train.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2]  # detectron2's reader wants numbers
    names = [image["file_name"] for image in content["images"]]
    assert names == [f"{stem}_leftImg8bit.png" for stem in tiny_root.stems]
    assert [c["name"] for c in content["categories"] if c["isthing"]][:3] == ["person", "rider", "car"]
    for annotation in content["annotations"]:
        segments = from_rgb(read_image(folder / annotation["file_name"]))
        ids = {segment["id"] for segment in annotation["segments_info"]}
        assert ids == set(np.unique(segments).tolist()) - {0}
        assert sum(s["category_id"] == 13 for s in annotation["segments_info"]) == 1


def test_main__sizes_that_differ_name_the_file(tiny_root: Any) -> None:
    components(tiny_root)
    path = tiny_root.file("pseudo_instance_cc_mapped_k300", f"{tiny_root.stems[1]}.png")
    write_png(path, read_ids(path)[::2])
    with pytest.raises(UserError, match=rf"{tiny_root.stems[1]}.png: size 32x128"):
        run(tiny_root)


def test_main__a_trial_does_not_shorten_the_json_of_all(tiny_root: Any) -> None:
    components(tiny_root)
    run(tiny_root)
    path = tiny_root.path / "pseudo_panoptic_depth_guided_mapped_k300" / "train.json"
    before = json.loads(path.read_text())
    run(tiny_root, "--max_images", "1")
    assert json.loads(path.read_text())["images"] == before["images"]
    assert len(before["images"]) == len(tiny_root.stems)
