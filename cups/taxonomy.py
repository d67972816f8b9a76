"""Cityscapes labels, once: ids, trainIds, the 27/19/7-class sets, colours, things and stuff.

Source: Cordts et al., "The Cityscapes Dataset" (CVPR 2016) and its public label definitions.
Everything that maps one numbering to another is derived from `LABELS` below.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

VOID = 255
"""Ignore value of every map of ground-truth classes, and of pseudo-classes where they are few enough."""

WIDE_VOID = 65535
"""Ignore value of maps with more classes, and of all training labels: no pseudo-class can have it."""


CLASS_COUNTS = (27, 19, 7)
"""Numbers of classes of the evaluated sets, see `ClassSet`."""


def void_value(num_classes: int) -> int:
    """Return the void value of maps of `num_classes`: 255, or 65535 where 255 is a class."""
    return VOID if num_classes <= VOID else WIDE_VOID


def id_dtype(num_classes: int) -> type[np.uint8] | type[np.uint16]:
    """Return the dtype of files with maps of `num_classes`: uint8 up to 254 classes, uint16 above."""
    return np.uint8 if num_classes < VOID else np.uint16


@dataclass(frozen=True)
class Label:
    """One row of the Cityscapes label table; `train_id` is 255 where the 19-class benchmark ignores it."""

    name: str
    id: int
    train_id: int
    category: str
    category_id: int
    is_thing: bool
    color: tuple[int, int, int]


LABELS: tuple[Label, ...] = (
    Label("unlabeled", 0, 255, "void", 0, False, (0, 0, 0)),
    Label("ego vehicle", 1, 255, "void", 0, False, (0, 0, 0)),
    Label("rectification border", 2, 255, "void", 0, False, (0, 0, 0)),
    Label("out of roi", 3, 255, "void", 0, False, (0, 0, 0)),
    Label("static", 4, 255, "void", 0, False, (0, 0, 0)),
    Label("dynamic", 5, 255, "void", 0, False, (111, 74, 0)),
    Label("ground", 6, 255, "void", 0, False, (81, 0, 81)),
    Label("road", 7, 0, "flat", 1, False, (128, 64, 128)),
    Label("sidewalk", 8, 1, "flat", 1, False, (244, 35, 232)),
    Label("parking", 9, 255, "flat", 1, False, (250, 170, 160)),
    Label("rail track", 10, 255, "flat", 1, False, (230, 150, 140)),
    Label("building", 11, 2, "construction", 2, False, (70, 70, 70)),
    Label("wall", 12, 3, "construction", 2, False, (102, 102, 156)),
    Label("fence", 13, 4, "construction", 2, False, (190, 153, 153)),
    Label("guard rail", 14, 255, "construction", 2, False, (180, 165, 180)),
    Label("bridge", 15, 255, "construction", 2, False, (150, 100, 100)),
    Label("tunnel", 16, 255, "construction", 2, False, (150, 120, 90)),
    Label("pole", 17, 5, "object", 3, False, (153, 153, 153)),
    Label("polegroup", 18, 255, "object", 3, False, (153, 153, 153)),
    Label("traffic light", 19, 6, "object", 3, False, (250, 170, 30)),
    Label("traffic sign", 20, 7, "object", 3, False, (220, 220, 0)),
    Label("vegetation", 21, 8, "nature", 4, False, (107, 142, 35)),
    Label("terrain", 22, 9, "nature", 4, False, (152, 251, 152)),
    Label("sky", 23, 10, "sky", 5, False, (70, 130, 180)),
    Label("person", 24, 11, "human", 6, True, (220, 20, 60)),
    Label("rider", 25, 12, "human", 6, True, (255, 0, 0)),
    Label("car", 26, 13, "vehicle", 7, True, (0, 0, 142)),
    Label("truck", 27, 14, "vehicle", 7, True, (0, 0, 70)),
    Label("bus", 28, 15, "vehicle", 7, True, (0, 60, 100)),
    Label("caravan", 29, 255, "vehicle", 7, True, (0, 0, 90)),
    Label("trailer", 30, 255, "vehicle", 7, True, (0, 0, 110)),
    Label("train", 31, 16, "vehicle", 7, True, (0, 80, 100)),
    Label("motorcycle", 32, 17, "vehicle", 7, True, (0, 0, 230)),
    Label("bicycle", 33, 18, "vehicle", 7, True, (119, 11, 32)),
)

BY_NAME: dict[str, Label] = {label.name: label for label in LABELS}
FIRST_EVALUATED_ID = 7
"""Ids below it are void in every class set."""


@dataclass(frozen=True, eq=False)
class ClassSet:
    """A set of evaluation classes.

    Attributes:
        num_classes: 27 (Cityscapes ids 7-33 in order), 19 (trainIds) or 7 (categories).
        names: class names, index = class.
        things, stuffs: class indices, rising.
        colors: (num_classes, 3) uint8 RGB.
        from_id: (256,) uint8, Cityscapes label id -> class, 255 where void.
    """

    num_classes: int
    names: tuple[str, ...]
    things: tuple[int, ...]
    stuffs: tuple[int, ...]
    colors: np.ndarray
    from_id: np.ndarray


def _class_of(label: Label, num_classes: int) -> int:
    if label.id < FIRST_EVALUATED_ID:
        return VOID
    if num_classes == 27:
        return label.id - FIRST_EVALUATED_ID
    return label.train_id if num_classes == 19 else label.category_id - 1


@cache
def class_set(num_classes: int) -> ClassSet:
    """Return the 27-, 19- or 7-class set.

    Raises:
        ValueError: for any other number.
    """
    if num_classes not in CLASS_COUNTS:
        raise ValueError(f"class sets have 27, 19 or 7 classes, not {num_classes}")
    from_id = np.full(256, VOID, dtype=np.uint8)
    first_label: dict[int, Label] = {}
    for label in LABELS:
        index = _class_of(label, num_classes)
        from_id[label.id] = index
        if index != VOID:
            first_label.setdefault(index, label)
    labels = [first_label[index] for index in range(num_classes)]
    things = tuple(index for index, label in enumerate(labels) if label.is_thing)
    from_id.setflags(write=False)
    return ClassSet(
        num_classes=num_classes,
        names=tuple(label.category if num_classes == 7 else label.name for label in labels),
        things=things,
        stuffs=tuple(index for index in range(num_classes) if index not in things),
        colors=np.array([label.color for label in labels], dtype=np.uint8),
        from_id=from_id,
    )


def class27_to_train_id() -> np.ndarray:
    """Return (256,) uint8: 27-class index (Cityscapes id - 7) -> trainId, 255 where the 19 ignore it."""
    table = np.full(256, VOID, dtype=np.uint8)
    table[:27] = class_set(19).from_id[FIRST_EVALUATED_ID : FIRST_EVALUATED_ID + 27]
    return table


def train_id_to_id() -> np.ndarray:
    """Return (256,) uint8: trainId -> Cityscapes id, 0 (unlabeled) for everything else."""
    table = np.zeros(256, dtype=np.uint8)
    for label in LABELS:
        if label.train_id != VOID:
            table[label.train_id] = label.id
    return table


# Kirillov et al. (2019) separate the two kinds strictly; a class in both would be counted twice.
for _size in CLASS_COUNTS:
    _classes = class_set(_size)
    assert set(_classes.things).isdisjoint(_classes.stuffs)
    assert len(_classes.things) + len(_classes.stuffs) == _size
