"""Numberings that are mistaken for each other: each is told by a line that names file, finding and fix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.labels.id_schemes import (
    SharedNumbers,
    check_numbering,
    refuse_other_ids,
    refuse_other_instances,
    without_bare_ids,
)
from cups.taxonomy import class_set, train_id_to_id

CLASSES = class_set(19)
PATH = Path("a.png")


def street() -> tuple[np.ndarray, np.ndarray]:
    """Return label ids and instanceIds: a street with a pole, two cars, a person and a group."""
    ids = np.full((40, 40), 7, np.uint8)
    ids[:8], ids[8:16], ids[16:20] = 23, 11, 8
    ids[10:20, 38:] = 17
    instances = ids.astype(np.uint16)
    for number, (label, rows, columns) in enumerate(
        ((26, np.s_[20:30], np.s_[2:10]), (26, np.s_[20:30], np.s_[14:20]), (24, np.s_[22:34], np.s_[24:28]))
    ):
        ids[rows, columns] = label
        instances[rows, columns] = label * 1000 + (number if label == 26 else 0)
    ids[36:, 30:34] = instances[36:, 30:34] = 24
    return ids, instances


def train_ids(ids: np.ndarray) -> np.ndarray:
    table = np.full(256, 255, np.uint8)
    table[train_id_to_id()[:19]] = np.arange(19)
    return table[ids]


def check(ids: np.ndarray, instances: np.ndarray, plain: bool = False) -> None:
    check_numbering([(PATH, Path("b.png"))] * 3, lambda _: (ids, instances), CLASSES, plain)


def numbered(ids: np.ndarray, instances: np.ndarray, per_class: bool) -> np.ndarray:
    """Number the objects 1, 2, ... in each class, or through."""
    numbers = np.zeros(ids.shape, np.uint16)
    for number, value in enumerate(np.unique(instances[instances >= 1000]), start=1):
        numbers[instances == value] = value % 1000 + 1 if per_class else number
    return numbers


def test_check_numbering__cityscapes_as_it_is() -> None:
    ids, instances = street()
    check(ids, instances)
    check(ids, instances, plain=True)
    ids[0, 0] = 255  # license plate, -1 in 8 bits
    check(ids, np.where(instances >= 1000, ids, instances).astype(np.uint16))  # groups alone


def test_check_numbering__plain_numbers_only_where_they_are_due() -> None:
    ids, instances = street()
    plain = numbered(ids, instances, per_class=False)
    check(ids, plain, plain=True)
    check(ids, plain.astype(np.uint8), plain=True)
    with pytest.raises(UserError, match=r"b.png: numbers objects 0, ..., 3, where class \* 1000 \+ number"):
        check(ids, plain)


def wrong_cases() -> dict[str, tuple[np.ndarray, np.ndarray, bool, str]]:
    ids, instances = street()
    plain = numbered(ids, instances, per_class=False)
    return {
        "trainIds": (train_ids(ids), instances, True, r"a.png: looks like trainIds \(0-13 in 3 files\)"),
        "swapped": (instances, ids, False, r"a.png: holds 24000, an id of an instance .* swapped"),
        "swapped plain": (
            plain,
            ids,
            True,
            r"are stuff or void in the semantic file: the two files are swapped",
        ),
        "8 bits": (ids, instances.astype(np.uint8), False, "b.png: has 8 bits, and instanceIds"),
        "8 bits, plain": (ids, instances.astype(np.uint8), True, "b.png: has 8 bits, and instanceIds"),
        "per class": (
            ids,
            numbered(ids, instances, True),
            True,
            "b.png: instance 1 is in person and in car: num",
        ),
        "per class, Cityscapes": (ids, numbered(ids, instances, True), False, "restart in each class"),
        "other image": (ids[:, ::-1], instances, False, r"b.png: holds 2.00. where the semantic file has"),
        "void": (
            np.full_like(ids, 3),
            np.full_like(instances, 3),
            False,
            r"3 \(out of roi\)\), and so are all 3",
        ),
        "unknown": (
            np.where(ids == 7, 40, ids),
            instances,
            False,
            "holds id 40, which cityscapes-19 does not",
        ),
    }


@pytest.mark.parametrize("name", wrong_cases())
def test_check_numbering__names_the_fault(name: str) -> None:
    ids, instances, plain, message = wrong_cases()[name]
    if name == "trainIds":
        instances = np.zeros_like(instances)
    with pytest.raises(UserError, match=message):
        check(ids, instances, plain)


def test_check_numbering__one_labelled_frame_is_enough() -> None:
    """Of the frames looked at first all may be void; labels elsewhere count."""
    ids, instances = street()
    void = np.zeros_like(ids)
    frames = [(void, void)] * 20
    frames[7] = (ids, instances)
    check_numbering([(PATH, PATH)] * 20, lambda index: frames[index], CLASSES)
    with pytest.raises(UserError, match=r"void everywhere .* all 20 label files"):
        check_numbering([(PATH, PATH)] * 20, lambda _: (void, void), CLASSES)


def test_refuse_train_ids__sparse_labels_are_no_train_ids() -> None:
    ids, instances = street()
    sparse = np.where((ids == 7) | (ids == 8), ids, 0).astype(np.uint8)
    sparse[:30] = 0
    check(sparse, np.zeros_like(instances))


def test_without_bare_ids__stuff_and_groups_are_no_objects() -> None:
    ids, instances = street()
    numbers = without_bare_ids(instances, ids)
    assert np.unique(numbers).tolist() == [0, 24000, 26000, 26001]
    plain = numbered(ids, instances, per_class=False)
    assert np.array_equal(without_bare_ids(plain, ids), plain)


def test_shared_numbers__objects_of_several_clusters_touch() -> None:
    ids, instances = street()
    halves, restarts = SharedNumbers(), SharedNumbers()
    clusters = np.where(np.arange(40)[:, None] < 26, ids, ids + 50)
    halves.add(clusters, numbered(ids, instances, per_class=False))
    halves.refuse_restarts(PATH)
    assert (halves.shared, halves.touching) == (3, 3)
    for _ in range(2):
        restarts.add(ids, numbered(ids, instances, per_class=True))
    with pytest.raises(UserError, match="2 instance numbers are in several classes"):
        restarts.refuse_restarts(PATH)


def test_refuse__single_maps() -> None:
    ids, instances = street()
    refuse_other_ids(PATH, np.where(ids == 7, 65535, ids.astype(np.uint16)), CLASSES)
    refuse_other_instances(PATH, np.zeros_like(instances), np.full_like(ids, 7), CLASSES)
