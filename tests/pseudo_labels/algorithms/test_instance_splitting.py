"""Slots to instances, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pseudo_labels.algorithms.instance_splitting import slot_instances
from pseudo_labels.settings.dinosaur import SlotSettings

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
