"""Semantic and instance maps merged into one panoptic map, and its segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.io.coco_panoptic import describe_segments, segment_ids
from cups.ops.panoptic import to_panoptic
from cups.taxonomy import void_value


def merge(semantic: np.ndarray, instance: np.ndarray, things: Sequence[int], num_classes: int) -> np.ndarray:
    panoptic = to_panoptic(semantic, instance, things, num_classes)
    return segment_ids(panoptic, void_value(num_classes))[panoptic.ids]


def test_to_panoptic__uncovered_thing_pixels_are_void() -> None:
    semantic = np.array([[0, 1, 1, 255]], np.uint8)
    instance = np.array([[0, 0, 2, 0]], np.uint16)
    panoptic = to_panoptic(semantic, instance, things=(1,), num_classes=2)
    assert panoptic.pairs[0].tolist() == [[0, 0], [255, 0], [1, 1], [255, 0]]


def test_to_panoptic__an_instance_takes_its_majority_class() -> None:
    semantic, instance = np.array([[1, 2, 2, 0]], np.uint8), np.array([[4, 4, 4, 0]], np.uint16)
    panoptic = to_panoptic(semantic, instance, things=(1, 2), num_classes=3)
    assert panoptic.pairs[0].tolist() == [[2, 1], [2, 1], [2, 1], [0, 0]]


def test_segment_ids__majority_class_void_and_uncovered_things() -> None:
    # Class 0 stuff, 1 and 2 things. Instance 1 is mostly class 2; a thing pixel without instance is void.
    semantic = np.array([[0, 2, 2, 1], [0, 1, 255, 2]], np.uint8)
    instance = np.array([[0, 1, 1, 1], [0, 2, 0, 0]], np.uint16)
    segments = merge(semantic, instance, things=(1, 2), num_classes=3)
    assert segments.tolist() == [[1000, 3001, 3001, 3001], [1000, 2001, 0, 0]]


def test_segment_ids__an_instance_of_stuff_joins_the_stuff() -> None:
    semantic = np.zeros((2, 2), np.uint8)
    assert (merge(semantic, np.ones((2, 2), np.uint16), things=(1,), num_classes=2) == 1000).all()


def test_segment_ids__more_objects_than_ids() -> None:
    instance = np.arange(1, 1001, dtype=np.uint16)[None]
    with pytest.raises(ValueError, match="1000 objects"):
        merge(np.ones((1, 1000), np.uint8), instance, things=(1,), num_classes=2)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_segment_ids__every_segment_is_one_class_and_partitions_hold(seed: int) -> None:
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
