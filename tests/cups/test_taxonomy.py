"""The label table and the maps derived from it."""

from __future__ import annotations

import numpy as np
import pytest

from cups.taxonomy import LABELS, VOID, class27_to_train_id, class_set, id_dtype, train_id_to_id, void_value


def test_class_set__sizes_and_known_classes() -> None:
    nineteen = class_set(19)
    assert nineteen.names[0] == "road"
    assert nineteen.names[10] == "sky"
    assert nineteen.things == tuple(range(11, 19))
    assert nineteen.from_id[26] == 13  # car
    assert nineteen.from_id[9] == VOID  # parking is not evaluated
    twenty_seven = class_set(27)
    assert twenty_seven.names[17] == "person"
    assert twenty_seven.things == tuple(range(17, 27))
    seven = class_set(7)
    assert seven.names == ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
    assert seven.things == (5, 6)
    assert seven.from_id[9] == 0


@pytest.mark.parametrize("size", [27, 19, 7])
def test_class_set__void_ids(size: int) -> None:
    table = class_set(size).from_id
    assert (table[:7] == VOID).all()
    assert (table[34:] == VOID).all()


def test_class_set__other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="27, 19 or 7"):
        class_set(20)


def test_maps__agree_with_each_other() -> None:
    for label in LABELS[7:]:
        assert class27_to_train_id()[label.id - 7] == label.train_id
        if label.train_id != VOID:
            assert train_id_to_id()[label.train_id] == label.id


def test_id_dtype__void_has_room_beside_the_classes() -> None:
    for classes, dtype in ((1, np.uint8), (254, np.uint8), (255, np.uint16), (65534, np.uint16)):
        assert id_dtype(classes) is dtype
        assert classes - 1 < void_value(classes) <= np.iinfo(dtype).max
