"""Regions to instances: split along depth edges, and by slots."""

from __future__ import annotations

import numpy as np
import pytest

from pseudo_labels.algorithms.instance_splitting import depth_guided_instances, slot_instances
from pseudo_labels.settings.dinosaur import SlotSettings
from pseudo_labels.settings.groups import Splitting

CARS = (13,)
SETTINGS = Splitting(grad_threshold=0.2, min_area=20, dilation=3)


def two_cars() -> tuple[np.ndarray, np.ndarray]:
    """A region of class 13 whose left half is 8 m away and whose right half is 12 m away."""
    semantic = np.zeros((32, 64), np.uint8)
    semantic[8:24, 8:56] = 13
    depth = np.full((32, 64), 30.0, np.float32)
    depth[8:24, 8:30], depth[8:24, 30:56] = 8.0, 12.0
    return semantic, depth


def test_depth_guided_instances__splits_two_overlapping_cars() -> None:
    semantic, depth = two_cars()
    instances = depth_guided_instances(semantic, depth, CARS, SETTINGS)
    assert instances[:, 30:][semantic[:, 30:] == 13].tolist() == [1] * (16 * 26)
    assert instances[:, :30][semantic[:, :30] == 13].tolist() == [2] * (16 * 22)
    assert not instances[semantic != 13].any()


def test_depth_guided_instances__without_depth_one_component() -> None:
    semantic, _ = two_cars()
    assert ((depth_guided_instances(semantic, None, CARS, SETTINGS) == 1) == (semantic == 13)).all()


def test_depth_guided_instances__a_high_threshold_does_not_split() -> None:
    semantic, depth = two_cars()
    settings = Splitting(grad_threshold=0.7, min_area=20, dilation=3)
    inside = depth_guided_instances(semantic, depth, CARS, settings)[10:22, 10:54]
    assert (inside == 1).all()


def test_depth_guided_instances__depth_of_another_size() -> None:
    semantic, depth = two_cars()
    large = np.repeat(np.repeat(depth, 2, axis=0), 2, axis=1)
    instances = depth_guided_instances(semantic, large, CARS, SETTINGS)
    assert instances.shape == semantic.shape and instances.max() == 2


def test_depth_guided_instances__class_zero_can_be_a_thing() -> None:
    semantic = np.full((8, 8), 5, np.uint8)
    semantic[2:6, 2:6] = 0
    settings = Splitting(min_area=4)
    assert ((depth_guided_instances(semantic, None, (0,), settings) == 1) == (semantic == 0)).all()


def test_depth_guided_instances__merged_things_keep_a_two_class_car_whole() -> None:
    # Overclusters: the upper half of a car is class 3 (windows), the lower class 4 (body).
    semantic = np.zeros((20, 20), np.uint8)
    semantic[4:10, 4:16], semantic[10:16, 4:16] = 3, 4
    apart = depth_guided_instances(semantic, None, (3, 4), Splitting(min_area=4))
    whole = depth_guided_instances(semantic, None, (3, 4), Splitting(min_area=4, proposals="things"))
    assert apart.max() == 2 and whole.max() == 1


def test_object_instances__without_thing_pixels_nothing_is_kept() -> None:
    rows = np.arange(64, dtype=np.float32)[:, None]
    depth = np.repeat(np.minimum(180 / np.maximum(rows - 28, 0.1), 60), 128, axis=1)
    depth[20:44, 50:70] = 11.5
    settings = Splitting(min_area=20, proposals="objects")
    semantic = np.zeros((64, 128), np.uint8)
    assert not depth_guided_instances(semantic, depth, (1,), settings).any()
    semantic[20:44, 50:60] = 1
    assert depth_guided_instances(semantic, depth, (1,), settings)[25, 68] == 1


SLOTS = np.array([[0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [2, 2, 2, 2, 2, 2]])
SEMANTIC = np.array([[13, 13, 13, 13, 11, 13], [13, 13, 13, 13, 11, 13], [0, 0, 13, 0, 0, 0]], np.uint8)
"""Slot 0 holds two cars (columns 0-1 and 5), slot 1 a car and a person, slot 2 the street and a sliver."""


@pytest.mark.parametrize(
    ("things", "settings", "expected"),
    [
        (
            (11, 13),
            SlotSettings(min_area=2, dilation=0),
            [[1, 1, 2, 2, 3, 4], [1, 1, 2, 2, 3, 4], [0, 0, 0, 0, 0, 0]],
        ),
        (
            (11, 13),
            SlotSettings(min_area=2, dilation=1),
            [[2, 2, 1, 1, 3, 4], [2, 2, 1, 1, 3, 4], [0, 0, 1, 0, 0, 0]],
        ),
        (
            (11, 13),
            SlotSettings(min_area=2, dilation=0, proposals="things"),
            [[2, 2, 1, 1, 1, 3], [2, 2, 1, 1, 1, 3], [0, 0, 0, 0, 0, 0]],
        ),
        (
            (13,),
            SlotSettings(min_area=3, proposals="slots", min_thing_share=0.6),
            [[2, 2, 1, 1, 1, 0], [2, 2, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]],
        ),
    ],
    ids=["classes", "sliver given back", "things", "slots"],
)
def test_slot_instances__by_hand(
    things: tuple[int, ...], settings: SlotSettings, expected: list[list[int]]
) -> None:
    np.testing.assert_array_equal(slot_instances(SLOTS, SEMANTIC, things, settings), expected)


def test_slot_instances__without_semantics() -> None:
    settings = SlotSettings(min_area=1, proposals="slots", min_thing_share=0)
    found = slot_instances(SLOTS, None, (), settings)
    np.testing.assert_array_equal(found, [[3, 3, 1, 1, 1, 4], [3, 3, 1, 1, 1, 4], [2, 2, 2, 2, 2, 2]])
