"""COCO panoptic files: ids that survive, descriptions that fit the pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.io.coco_panoptic import (
    PanopticFile,
    categories_of,
    describe_segments,
    from_colours,
    from_rgb,
    number_colours,
    read_panoptic,
    segment_ids,
    to_rgb,
    write_panoptic,
    write_panoptic_json,
)
from cups.ops.panoptic_map import PanopticMap


def test_segment_ids__hand_made() -> None:
    # Stuff 0, two objects of class 2 (ids 9 and 5), void.
    category, instance = np.array([[0, 0, 2, 2, 255]]), np.array([[0, 0, 9, 5, 0]])
    panoptic = PanopticMap.from_maps(category, instance)
    segments = segment_ids(panoptic)[panoptic.ids]
    assert segments.tolist() == [[1000, 1000, 3002, 3001, 0]]
    back = from_colours(to_rgb(segments))
    assert back.categories.tolist() == category.tolist()
    instance = back.instances[0]
    assert len(set(instance[2:4].tolist()) - {0}) == 2 and instance[[0, 1, 4]].tolist() == [0, 0, 0]


def test_segment_ids__a_thousand_objects_do_not_fit() -> None:
    instance = np.arange(1, 1001)[None]
    with pytest.raises(ValueError, match="1000 objects"):
        segment_ids(PanopticMap.from_maps(np.ones_like(instance), instance))


def test_to_rgb__round_trip() -> None:
    segments = np.array([[0, 255, 256, 301_999, 2**24 - 1]])
    assert (from_rgb(to_rgb(segments)) == segments).all()


@settings(max_examples=40)
@given(st.integers(0, 9999), st.sampled_from([3, 70_000, 2**24]), st.booleans())
def test_number_colours__are_the_ids_of_the_pixels(seed: int, highest: int, noisy: bool) -> None:
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, highest, (5, 24)) if noisy else rng.integers(0, highest, (5, 2)).repeat(12, 1)
    numbers, ids, starts = number_colours(to_rgb(segments))
    assert np.array_equal(ids[numbers], segments) and np.array_equal(ids, np.unique(segments))
    assert ids.dtype == np.int64
    flat = segments.ravel()
    assert starts.tolist() == [i for i in range(flat.size) if i == 0 or flat[i] != flat[i - 1]]


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_write_panoptic__same_partition_reads_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    void = 65535
    category = rng.integers(0, 400, (4, 5)).repeat(2, axis=0).repeat(3, axis=1)
    category[rng.random(category.shape) < 0.2] = void
    thing = (category >= 200) & (category != void)
    panoptic = np.stack((category, np.where(thing, category, 0)), axis=-1)
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_panoptic(path, panoptic, void)
    back = read_panoptic(path, void)
    assert (back.categories == category).all(), "more than 254 categories keep their ids"
    pairs = np.unique(np.stack((panoptic[..., 1].ravel(), back.instances.ravel())), axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1])), "objects stay apart"


def test_write_panoptic_json__describes_the_pixels(tmp_path: Path) -> None:
    panoptic = np.zeros((4, 6, 2), np.int64)
    panoptic[1:3, 2:5] = (1, 1)
    panoptic[3, 0] = (255, 0)
    write_panoptic(tmp_path / "png" / "a" / "one.png", panoptic)
    file = PanopticFile("a/one.jpg", "a/one.png")
    categories = categories_of(["road", "car"], things=[1])
    write_panoptic_json(tmp_path / "set.json", tmp_path / "png", [file], categories)
    content = json.loads((tmp_path / "set.json").read_text())
    assert content["images"] == [{"id": 1, "file_name": "a/one.jpg", "height": 4, "width": 6}]
    assert [c["isthing"] for c in content["categories"]] == [0, 1]
    road, car = content["annotations"][0]["segments_info"]
    assert (road["category_id"], road["area"]) == (0, 24 - 6 - 1)
    assert car == {"id": 2001, "category_id": 1, "area": 6, "bbox": [2, 1, 3, 2], "iscrowd": 0}
    assert content["annotations"][0]["file_name"] == "a/one.png"


def test_describe_segments__nothing_but_void() -> None:
    assert describe_segments(np.zeros((2, 2), np.int64)) == []
