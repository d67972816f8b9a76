"""Classes: the values that stand for void, class sets and their files, the numberings of Cityscapes.

The 27-, 19- and 7-class sets of Cityscapes are class files like a user's own: `cups/classes/*.yaml`. Source:
Cordts et al., "The Cityscapes Dataset" (CVPR 2016) and its public label definitions.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from cups.class_files import SHIPPED, ClassFile, Entry, read_class_file
from cups.errors import UserError

VOID = 255
"""Ignore value of every map of ground-truth classes, and of pseudo-classes where they are few enough."""

WIDE_VOID = 65535
"""Ignore value of maps with more classes, and of all training labels: no pseudo-class can have it."""

CLASS_COUNTS = (27, 19, 7)
"""Numbers of classes of the evaluated sets, see `ClassSet`."""

FIRST_EVALUATED_ID = 7
"""Ids of Cityscapes below it are void in every class set."""


def void_value(num_classes: int) -> int:
    """Return the void value of maps of `num_classes`: 255, or 65535 where 255 is a class."""
    return VOID if num_classes <= VOID else WIDE_VOID


def id_dtype(num_classes: int) -> type[np.uint8] | type[np.uint16]:
    """Return the dtype of files with maps of `num_classes`: uint8 up to 254 classes, uint16 above."""
    return np.uint8 if num_classes < VOID else np.uint16


@dataclass(frozen=True, eq=False)
class ClassSet:
    """A set of evaluation classes, as a class file describes it.

    Attributes:
        num_classes: C, 1 to 254. Of Cityscapes: 27 (ids 7-33 in order), 19 (trainIds) or 7 (categories).
        names: class names, index = class.
        things, stuffs: class indices, rising.
        colors: (C, 3) uint8 RGB.
        from_id: (N,) uint8, id in label files -> class, 255 where void; N is 256 or above the highest id.
        ignored: id -> name of the ids that labels may hold and that are not evaluated.
        name: of the set.
        file: the class file, of a shipped one its name; empty for the 27, 19 and 7 classes.
        absent: classes that these labels lack: they may take a pseudo-class, and no mean holds them.
        of_category: name of a category of COCO panoptic sets -> class, the classes' own names among them.
    """

    num_classes: int
    names: tuple[str, ...]
    things: tuple[int, ...]
    stuffs: tuple[int, ...]
    colors: np.ndarray
    from_id: np.ndarray
    ignored: Mapping[int, str]
    name: str = ""
    file: str = ""
    absent: tuple[int, ...] = ()
    of_category: Mapping[str, int] = field(default_factory=dict)

    @property
    def evaluated(self) -> np.ndarray:
        """(C,) bool, the classes that means are over."""
        return ~np.isin(np.arange(self.num_classes), self.absent)

    def of_ids(self, ids: np.ndarray) -> np.ndarray:
        """Return the class of each id, int64 in the shape of `ids`; 255 for all that are not of a class."""
        ids = np.asarray(ids).astype(np.int64)
        known = (ids >= 0) & (ids < len(self.from_id))
        return np.where(known, self.from_id[np.where(known, ids, 0)], VOID).astype(np.int64)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of all classes, rising."""
        return tuple(np.flatnonzero(self.from_id != VOID).tolist())


@cache
def class_set(num_classes: int) -> ClassSet:
    """Return the 27-, 19- or 7-class set of Cityscapes.

    Raises:
        ValueError: for any other number.
    """
    if num_classes not in CLASS_COUNTS:
        raise ValueError(f"class sets have 27, 19 or 7 classes, not {num_classes}")
    return _class_set(read_class_file(SHIPPED / f"cityscapes-{num_classes}.yaml"))


def load_class_set(path_or_name: str | Path) -> ClassSet:
    """Return the classes of a YAML file, of a COCO panoptic JSON, or of a shipped file by its name.

    Raises:
        UserError: a missing file, YAML that cannot be read, or an entry that says something impossible.
    """
    path, shipped = Path(path_or_name), SHIPPED / f"{path_or_name}.yaml"
    if path.suffix not in (".yaml", ".yml", ".json") and shipped.is_file():
        path = shipped
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise UserError(f"{path}: no such class file; give a YAML file, or one of {names}")
    return _cached(path, path.stat().st_mtime_ns, path.stem if path == shipped else str(path))


def chosen_classes(num_classes: int, class_file: str | Path | None = None) -> ClassSet:
    """Return the classes of a class file, or the set of `num_classes` where no file is given.

    Raises:
        UserError: a class file that is missing or wrong.
        ValueError: no class file, and a number that is not 27, 19 or 7.
    """
    return load_class_set(class_file) if class_file else class_set(num_classes)


@cache
def _cached(path: Path, changed: int, name: str) -> ClassSet:
    """Read a file once while it stays as it is; changed: its time stamp."""
    del changed
    return _class_set(read_class_file(path), name)


def _class_set(content: ClassFile, file: str = "") -> ClassSet:
    entries = content.classes
    highest = max((*(label for entry in entries for label in entry.ids), *content.ignored, VOID))
    from_id = np.full(highest + 1, VOID, dtype=np.uint8)
    for index, entry in enumerate(entries):
        from_id[list(entry.ids)] = index
    from_id.setflags(write=False)
    things = tuple(index for index, entry in enumerate(entries) if entry.thing)
    return ClassSet(
        num_classes=len(entries),
        names=tuple(entry.name for entry in entries),
        things=things,
        stuffs=tuple(index for index in range(len(entries)) if index not in things),
        colors=np.array([_color(entry, index) for index, entry in enumerate(entries)], dtype=np.uint8),
        from_id=from_id,
        ignored=content.ignored,
        name=content.name,
        file=file,
        absent=tuple(i for i, entry in enumerate(entries) if not entry.ids and not entry.categories),
        of_category={name: i for i, entry in enumerate(entries) for name in (entry.name, *entry.categories)},
    )


def _color(entry: Entry, index: int) -> tuple[int, ...]:
    """Return the colour of a class; without one in the file, hues a golden section apart."""
    if entry.color is not None:
        return entry.color
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(0.618034 * index % 1, 0.55, 0.85))


@cache
def label_ids() -> Mapping[str, int]:
    """Return the id of each Cityscapes label by its name, the void ones included."""
    classes = class_set(27)
    evaluated = {name: index + FIRST_EVALUATED_ID for index, name in enumerate(classes.names)}
    return {name: label for label, name in classes.ignored.items()} | evaluated


def class27_to_train_id() -> np.ndarray:
    """Return (256,) uint8: 27-class index (Cityscapes id - 7) -> trainId, 255 where the 19 ignore it."""
    table = np.full(256, VOID, dtype=np.uint8)
    table[:27] = class_set(19).from_id[FIRST_EVALUATED_ID : FIRST_EVALUATED_ID + 27]
    return table


def train_id_to_id() -> np.ndarray:
    """Return (256,) uint8: trainId -> Cityscapes id, 0 (unlabeled) for everything else."""
    table = np.zeros(256, dtype=np.uint8)
    classes = class_set(19)
    for label in classes.ids:
        table[classes.from_id[label]] = label
    return table
