"""The class sets against Cityscapes' own table, and the numberings derived from them."""

from __future__ import annotations

import numpy as np
import pytest

from cups.taxonomy import (
    VOID,
    chosen_classes,
    class27_to_train_id,
    class_set,
    id_dtype,
    label_ids,
    load_class_set,
    train_id_to_id,
    void_value,
)

# name, id, trainId, category, category id, thing, colour: the public label definitions of Cityscapes.
LABELS = (
    ("unlabeled", 0, 255, "void", 0, False, (0, 0, 0)),
    ("ego vehicle", 1, 255, "void", 0, False, (0, 0, 0)),
    ("rectification border", 2, 255, "void", 0, False, (0, 0, 0)),
    ("out of roi", 3, 255, "void", 0, False, (0, 0, 0)),
    ("static", 4, 255, "void", 0, False, (0, 0, 0)),
    ("dynamic", 5, 255, "void", 0, False, (111, 74, 0)),
    ("ground", 6, 255, "void", 0, False, (81, 0, 81)),
    ("road", 7, 0, "flat", 1, False, (128, 64, 128)),
    ("sidewalk", 8, 1, "flat", 1, False, (244, 35, 232)),
    ("parking", 9, 255, "flat", 1, False, (250, 170, 160)),
    ("rail track", 10, 255, "flat", 1, False, (230, 150, 140)),
    ("building", 11, 2, "construction", 2, False, (70, 70, 70)),
    ("wall", 12, 3, "construction", 2, False, (102, 102, 156)),
    ("fence", 13, 4, "construction", 2, False, (190, 153, 153)),
    ("guard rail", 14, 255, "construction", 2, False, (180, 165, 180)),
    ("bridge", 15, 255, "construction", 2, False, (150, 100, 100)),
    ("tunnel", 16, 255, "construction", 2, False, (150, 120, 90)),
    ("pole", 17, 5, "object", 3, False, (153, 153, 153)),
    ("polegroup", 18, 255, "object", 3, False, (153, 153, 153)),
    ("traffic light", 19, 6, "object", 3, False, (250, 170, 30)),
    ("traffic sign", 20, 7, "object", 3, False, (220, 220, 0)),
    ("vegetation", 21, 8, "nature", 4, False, (107, 142, 35)),
    ("terrain", 22, 9, "nature", 4, False, (152, 251, 152)),
    ("sky", 23, 10, "sky", 5, False, (70, 130, 180)),
    ("person", 24, 11, "human", 6, True, (220, 20, 60)),
    ("rider", 25, 12, "human", 6, True, (255, 0, 0)),
    ("car", 26, 13, "vehicle", 7, True, (0, 0, 142)),
    ("truck", 27, 14, "vehicle", 7, True, (0, 0, 70)),
    ("bus", 28, 15, "vehicle", 7, True, (0, 60, 100)),
    ("caravan", 29, 255, "vehicle", 7, True, (0, 0, 90)),
    ("trailer", 30, 255, "vehicle", 7, True, (0, 0, 110)),
    ("train", 31, 16, "vehicle", 7, True, (0, 80, 100)),
    ("motorcycle", 32, 17, "vehicle", 7, True, (0, 0, 230)),
    ("bicycle", 33, 18, "vehicle", 7, True, (119, 11, 32)),
)


def expected(size: int) -> list[tuple[object, ...]]:
    """Return (name, thing, colour, ids) of each class, from the table alone."""
    rows: dict[int, list[tuple[str, int, int, str, int, bool, tuple[int, int, int]]]] = {}
    for row in LABELS:
        index = {27: row[1] - 7, 19: row[2], 7: row[4] - 1}[size]
        if row[1] >= 7 and index != VOID:
            rows.setdefault(index, []).append(row)
    return [
        (row[0][3 if size == 7 else 0], row[0][5], row[0][6], tuple(one[1] for one in row))
        for _, row in sorted(rows.items())
    ]


@pytest.mark.parametrize("size", [27, 19, 7])
def test_class_set__is_the_table_of_cityscapes(size: int) -> None:
    """Every value, so that a slip in a class file shows."""
    classes, rows = class_set(size), expected(size)
    assert classes.num_classes == len(rows) == size
    assert classes.names == tuple(row[0] for row in rows)
    assert classes.things == tuple(index for index, row in enumerate(rows) if row[1])
    assert classes.stuffs == tuple(index for index, row in enumerate(rows) if not row[1])
    assert classes.colors.dtype == np.uint8 and classes.colors.tolist() == [list(row[2]) for row in rows]
    table = np.full(256, VOID, np.uint8)
    for index, row in enumerate(rows):
        table[list(row[3])] = index
    assert classes.from_id.dtype == np.uint8 and np.array_equal(classes.from_id, table)
    assert {*classes.ids, *classes.ignored} == {row[1] for row in LABELS}
    assert class_set(size) is class_set(size) and not classes.file


def test_class_set__other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="27, 19 or 7"):
        class_set(20)


def test_chosen_classes__a_file_stands_before_a_number() -> None:
    assert chosen_classes(27) is class_set(27)
    assert chosen_classes(27, "cityscapes-7").names == class_set(7).names
    assert load_class_set("cityscapes-19").from_id.tolist() == class_set(19).from_id.tolist()


def test_of_ids__ids_beyond_the_table_are_void() -> None:
    ids = np.array([[26, 255], [26003, -1]])
    assert class_set(19).of_ids(ids).tolist() == [[13, VOID], [VOID, VOID]]


def test_maps__agree_with_each_other() -> None:
    for name, label, train_id, *_ in LABELS[7:]:
        assert class27_to_train_id()[label - 7] == train_id
        assert label_ids()[name] == label
        if train_id != VOID:
            assert train_id_to_id()[train_id] == label


def test_id_dtype__void_has_room_beside_the_classes() -> None:
    for classes, dtype in ((1, np.uint8), (254, np.uint8), (255, np.uint16), (65534, np.uint16)):
        assert id_dtype(classes) is dtype
        assert classes - 1 < void_value(classes) <= np.iinfo(dtype).max
