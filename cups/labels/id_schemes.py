"""Numberings of label files that are easily mistaken for each other: told apart, and named in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.ops.spread import spread_places
from cups.taxonomy import VOID, WIDE_VOID, ClassSet

FIRST_NUMBERED_ID = 1000
"""In Cityscapes' instanceIds, values from here on are `id * 1000 + number`; below it, bare ids."""
SLACK = 0.01
"""Share of pixels that may contradict a numbering: files that passed through an editor."""
MOST_CLASS_PIXELS = 0.6
"""Labels with fewer pixels of a class hold another numbering, or are mostly void."""
SAMPLE = 5

Pair = tuple[np.ndarray, np.ndarray]
"""Ids of classes and of instances, both (H, W), as stored."""


def refuse_other_ids(path: Path, ids: np.ndarray, classes: ClassSet) -> None:
    """Refuse a map that holds ids which the classes do not name.

    Args:
        path: for the message.
        ids: (H, W) ids of classes as stored; 255 and 65535 are void whether or not they are named.

    Raises:
        UserError: ids of instances in place of those of classes, or an id that nobody named.
    """
    named = {*classes.ids, *classes.ignored, VOID, WIDE_VOID}
    unknown = [label for label in np.unique(ids).tolist() if label not in named]
    if not unknown:
        return
    numbered = [label for label in unknown if label >= FIRST_NUMBERED_ID]
    if numbered and all(label // FIRST_NUMBERED_ID in named for label in numbered):
        raise UserError(
            f"{path}: holds {numbered[0]}, an id of an instance (class * 1000 + number), where ids of "
            "classes are due; semantic and instance files are swapped: give the one in place of the other"
        )
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    raise UserError(
        f"{path}: holds id {unknown[0]}{more}, which {_name(classes)} does not name; add it to its "
        "classes or to its 'ignore', or give the class file of these labels"
    )


def _name(classes: ClassSet) -> str:
    return classes.file or classes.name


@dataclass
class LabelCounts:
    """Pixels of each id over many label files, to judge the numbering of them all.

    Attributes:
        pixels: id -> pixels.
        files: number of files.
        first: the first of them.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    files: int = 0
    first: Path | None = None

    def add(self, path: Path, ids: np.ndarray) -> None:
        """Count a file."""
        values, counts = np.unique(ids, return_counts=True)
        self.pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        self.files += 1
        self.first = self.first or path

    def is_void(self, classes: ClassSet) -> bool:
        """Return whether no pixel is of a class."""
        return not set(self.pixels) & set(classes.ids)

    def refuse_void(self, classes: ClassSet) -> None:
        """Refuse labels without a pixel of any class.

        Raises:
            UserError: there is none.
        """
        if self.files and self.is_void(classes):
            held = ", ".join(f"{label}{_in_brackets(label, classes)}" for label in sorted(self.pixels)[:4])
            raise UserError(
                f"{self.first}: void everywhere (holds only {held}), and so are all {self.files} label "
                "files: there is nothing to score; the labels of a test split are not public, so choose "
                "another split, or check the class file"
            )

    def refuse_train_ids(self, classes: ClassSet) -> None:
        """Refuse trainIds, the places of the classes, where their ids are due.

        Raises:
            UserError: all values are places, and as ids most pixels would be void.
        """
        held = {label: count for label, count in self.pixels.items() if label not in (VOID, WIDE_VOID)}
        total = sum(held.values())
        if not held or max(held) >= classes.num_classes:
            return
        of_class = sum(count for label, count in held.items() if label in classes.ids) / total
        others = [
            label for label in held if label not in classes.ids and label > 0 and held[label] > SLACK * total
        ]
        if of_class < MOST_CLASS_PIXELS and len(others) > 1:
            raise UserError(
                f"{self.first}: looks like trainIds (0-{max(held)} in {self.files} files), where ids of "
                f"{_name(classes)} are due, {min(classes.ids)}-{max(classes.ids)}; give the *_labelIds.png, "
                "or a class file whose ids are the trainIds"
            )


def _in_brackets(label: int, classes: ClassSet) -> str:
    name = classes.ignored.get(label)
    return f" ({name})" if name else ""


def refuse_other_instances(
    path: Path, instances: np.ndarray, ids: np.ndarray, classes: ClassSet, plain: bool = False
) -> None:
    """Refuse an instance map whose numbers are not those that its semantics call for.

    Args:
        path: of the instance map, for the message.
        instances, ids: (H, W) as stored.
        plain: numbers 1, 2, ... over all classes of an image are due or allowed; else Cityscapes' alone.

    Raises:
        UserError: 8-bit instanceIds, numbers that restart in each class, plain numbers where they are not
            allowed, or instances of other labels.
    """
    category = classes.of_ids(ids)
    thing = np.isin(category, classes.things)
    numbers, labels = instances[thing].astype(np.int64), ids[thing].astype(np.int64)
    if not numbers.size:
        refuse_numbers_on_stuff(path, without_bare_ids(instances, ids), thing)
        return
    cityscapes = numbers >= FIRST_NUMBERED_ID
    if cityscapes.any():
        wrong = cityscapes & (numbers // FIRST_NUMBERED_ID != labels)
        if wrong.mean() > SLACK:
            raise UserError(
                f"{path}: holds {numbers[wrong][0]} where the semantic file has class id {labels[wrong][0]}; "
                "an instance is class * 1000 + number: give the two files of one image"
            )
        return
    other = numbers != labels
    if other.mean() <= SLACK:  # groups alone: the bare ids
        return
    stuff = (category != VOID) & ~thing
    bare = instances[stuff] == ids[stuff]
    if instances.dtype == np.uint8 and (not plain or (bare.size and bare.mean() > 1 - SLACK)):
        raise UserError(
            f"{path}: has 8 bits, and instanceIds (class * 1000 + number) need 16: the numbers were cut off; "
            "write it anew as a 16-bit PNG"
        )
    if plain:
        refuse_numbers_on_stuff(path, without_bare_ids(instances, ids), thing)
    shared = _shared_number(numbers, category[thing])
    if shared is not None:
        number, first, second = shared
        raise UserError(
            f"{path}: instance {number} is in {classes.names[first]} and in {classes.names[second]}: numbers "
            "restart in each class; write class * 1000 + number, as Cityscapes does"
        )
    if not plain:
        raise UserError(
            f"{path}: numbers objects {int(numbers[other].min())}, ..., {int(numbers.max())}, where "
            "class * 1000 + number is due; write that, or score folders with plain numbers"
        )


def refuse_numbers_on_stuff(path: Path, numbers: np.ndarray, thing: np.ndarray) -> None:
    """Refuse objects most of whose pixels are no thing.

    Args:
        path: for the message.
        numbers: (H, W), 0 for no object.
        thing: (H, W) bool, where classes are things.

    Raises:
        UserError: more than half of the numbered pixels are stuff or void.
    """
    numbered = numbers > 0
    share = thing[numbered].mean() if numbered.any() else 1.0
    if share < 0.5:
        raise UserError(
            f"{path}: {100 * (1 - share):.0f} % of its numbered pixels are stuff or void in the semantic "
            "file: the two files are swapped, or of two images; give the instances of these labels"
        )


def _shared_number(numbers: np.ndarray, category: np.ndarray) -> tuple[int, int, int] | None:
    """Return an instance number that two classes have, and both; None where there is none."""
    pairs = np.unique(np.stack((numbers, category))[:, numbers > 0], axis=1)
    again = np.flatnonzero(np.diff(pairs[0]) == 0)
    if not len(again):
        return None
    index = again[0]
    return int(pairs[0, index]), int(pairs[1, index]), int(pairs[1, index + 1])


def without_bare_ids(instances: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the numbers of objects, (H, W) int64, 0 for none.

    Of instanceIds (`class * 1000 + number`) the bare ids of stuff and groups become 0; plain numbers stay.

    Args:
        instances, ids: (H, W) as stored.
    """
    numbers = instances.astype(np.int64)
    large = numbers >= FIRST_NUMBERED_ID
    if large.any():
        bare = (numbers[large] // FIRST_NUMBERED_ID == ids[large]).mean() > 1 - SLACK
    else:
        bare = bool((numbers == ids).all())
    return np.where(large, numbers, 0) if bare else numbers


@dataclass
class SharedNumbers:
    """Instance numbers that several ids of a map have, over many maps.

    An object of several pseudo-classes is one piece in which they touch. Where numbers restart in each class,
    objects of one number lie apart, but for a rider on a bicycle.

    Attributes:
        shared: numbers of several ids.
        touching: those whose ids touch.
    """

    shared: int = 0
    touching: int = 0

    def add(self, ids: np.ndarray, numbers: np.ndarray) -> None:
        """Count a map; numbers: (H, W), 0 for no object."""
        inside = numbers > 0
        pairs = np.unique(np.stack((numbers[inside], ids[inside].astype(np.int64))), axis=1)
        values, counts = np.unique(pairs[0], return_counts=True)
        several = values[counts > 1]
        touching: set[int] = set()
        for first, second in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            met = (numbers[first] == numbers[second]) & (ids[first] != ids[second]) & inside[first]
            touching |= set(np.unique(numbers[first][met]).tolist())
        self.shared += len(several)
        self.touching += len(touching & set(several.tolist()))

    def refuse_restarts(self, path: Path) -> None:
        """Refuse instances whose numbers restart in each class.

        Raises:
            UserError: several numbers are shared, and most of them by objects that lie apart.
        """
        if self.shared > 1 and 2 * self.touching < self.shared:
            raise UserError(
                f"{path}: {self.shared} instance numbers are in several classes at places that do not touch: "
                "numbers restart in each class; number the objects of an image through, or write class * "
                "1000 + number, as Cityscapes does"
            )


def check_numbering(
    files: Sequence[tuple[Path, Path]], read: Callable[[int], Pair], classes: ClassSet, plain: bool = False
) -> None:
    """Look at a few label files, evenly spread, before a run that would score nonsense.

    Args:
        files: semantic and instance file of each frame.
        read: returns the ids of a frame by its position.
        plain: see `refuse_other_instances`.

    Raises:
        UserError: another numbering than the classes call for, or no pixel of any class in all files.
    """
    _look(
        [semantic for semantic, _ in files],
        read,
        classes,
        lambda index, ids, instances: refuse_other_instances(files[index][1], instances, ids, classes, plain),
    )


def check_held(files: Sequence[Path], read: Callable[[int], np.ndarray], classes: ClassSet) -> None:
    """Look at the ids of classes of a few label files, evenly spread; instances may be numbered anyhow.

    Args:
        files: of the frames, for messages.
        read: returns the ids of a frame by its position.

    Raises:
        UserError: other ids than the classes', or no pixel of any class in all files.
    """

    def pair(index: int) -> Pair:
        ids = read(index)
        return ids, ids

    _look(files, pair, classes, lambda *_: None)


def _look(
    files: Sequence[Path],
    read: Callable[[int], Pair],
    classes: ClassSet,
    also: Callable[[int, np.ndarray, np.ndarray], None],
) -> None:
    counts, chosen = LabelCounts(), spread(len(files))
    for index in chosen:
        ids, instances = read(index)
        refuse_other_ids(files[index], ids, classes)
        counts.add(files[index], ids)
        also(index, ids, instances)
    counts.refuse_train_ids(classes)
    for index in _rest(len(files), chosen):
        if not counts.is_void(classes):
            return
        counts.add(files[index], read(index)[0])
    counts.refuse_void(classes)


def spread(count: int) -> list[int]:
    """Return at most `SAMPLE` positions of `count`, evenly spread."""
    return spread_places(count, SAMPLE)


def _rest(count: int, chosen: Iterable[int]) -> list[int]:
    return sorted(set(range(count)) - set(chosen))
