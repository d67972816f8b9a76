"""Merging into COCO panoptic PNG and JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.errors import UserError
from cups.io.coco_panoptic import describe_segments, from_rgb
from cups.io.png import read_ids, read_image, write_png
from pseudo_labels.algorithms.panoptic import merge
from pseudo_labels.generate_depth_guided_instances import main as make_instances
from pseudo_labels.generate_panoptic_pseudolabels import main


def test_merge__majority_class_void_and_uncovered_things() -> None:
    # Class 0 stuff, 1 and 2 things. Instance 1 is mostly class 2; a thing pixel without instance is void.
    semantic = np.array([[0, 2, 2, 1], [0, 1, 255, 2]], np.uint8)
    instance = np.array([[0, 1, 1, 1], [0, 2, 0, 0]], np.uint16)
    segments = merge(semantic, instance, things=(1, 2), num_classes=3)
    assert segments.tolist() == [[1000, 3001, 3001, 3001], [1000, 2001, 0, 0]]


def test_merge__an_instance_of_stuff_joins_the_stuff() -> None:
    semantic = np.zeros((2, 2), np.uint8)
    assert (merge(semantic, np.ones((2, 2), np.uint16), things=(1,), num_classes=2) == 1000).all()


def test_merge__more_objects_than_ids() -> None:
    instance = np.arange(1, 1001, dtype=np.uint16)[None]
    with pytest.raises(ValueError, match="1000 objects"):
        merge(np.ones((1, 1000), np.uint8), instance, things=(1,), num_classes=2)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_merge__every_segment_is_one_class_and_partitions_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    semantic = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (9, 11))
    instance = rng.integers(0, 5, (9, 11)).astype(np.uint16)
    segments = merge(semantic, instance, things=(2, 3), num_classes=4)
    described = describe_segments(segments)
    assert sum(s["area"] for s in described) == np.count_nonzero(segments)
    for segment in described:
        mask = segments == segment["id"]
        rows, columns = np.nonzero(mask)
        assert segment["bbox"] == [
            columns.min(),
            rows.min(),
            np.ptp(columns) + 1,
            np.ptp(rows) + 1,
        ]
        # Objects never join: a thing segment lies inside one instance.
        if segment["category_id"] >= 2:
            assert len(np.unique(instance[mask])) == 1


def run(root: Any, *more: str) -> int:
    return main(["--cityscapes_root", str(root.path), "--instance_subdir", "pseudo_instance_cc", *more])


def test_main__png_and_json_agree(tiny_root: Any) -> None:
    make_instances(["--cityscapes_root", str(tiny_root.path), "--no_depth", "--min_area", "20"])
    run(tiny_root, "--shard", "1", "--num_shards", "2")
    run(tiny_root, "--shard", "0", "--num_shards", "2")
    folder = tiny_root.path / "pseudo_panoptic_depth_guided"
    content = json.loads((folder / "train.json").read_text())
    assert [image["id"] for image in content["images"]] == list(tiny_root.stems)
    assert [c["name"] for c in content["categories"] if c["isthing"]][:3] == ["person", "rider", "car"]
    for annotation in content["annotations"]:
        segments = from_rgb(read_image(folder / annotation["file_name"]))
        ids = {segment["id"] for segment in annotation["segments_info"]}
        assert ids == set(np.unique(segments).tolist()) - {0}
        assert sum(s["category_id"] == 13 for s in annotation["segments_info"]) == 1


def test_main__sizes_that_differ_name_the_file(tiny_root: Any) -> None:
    make_instances(["--cityscapes_root", str(tiny_root.path), "--no_depth", "--min_area", "20"])
    path = tiny_root.file("pseudo_instance_cc", f"{tiny_root.stems[1]}.png")
    write_png(path, read_ids(path)[::2])
    with pytest.raises(UserError, match=rf"{tiny_root.stems[1]}.png: size 32x128"):
        run(tiny_root)
