"""Labels of any tool as pseudo-classes: what an evaluation matches, and what a training learns from."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from cups.errors import UserError
from cups.folder_settings import Ids
from cups.labels.coco_sets import CocoSet, classes_of_categories, some
from cups.labels.id_schemes import (
    FIRST_NUMBERED_ID,
    LabelCounts,
    SharedNumbers,
    refuse_numbers_on_stuff,
    refuse_other_ids,
    spread,
    without_bare_ids,
)
from cups.labels.label_folders import Labels
from cups.ops.panoptic import to_panoptic
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import VOID, WIDE_VOID, ClassSet, void_value

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guess:
    """A prediction as K pseudo-classes, or as classes by name.

    Attributes:
        labels: the files.
        ids: id of each pseudo-class in maps of ids, rising; of a COCO set their positions.
        things: those that are things.
        named: (K,) class of each pseudo-class by name, -1 for none; None where clusters are matched.
    """

    labels: Labels
    ids: np.ndarray
    things: tuple[int, ...]
    named: np.ndarray | None = None

    @property
    def total(self) -> int:
        """K."""
        return len(self.ids)

    def read(self, name: str) -> PanopticMap:
        """Read a frame as pseudo-classes, void is `void_value(K)`.

        Raises:
            UserError: unreadable files, or an id that is no pseudo-class.
        """
        void = void_value(self.total)
        if isinstance(self.labels, CocoSet):
            return self.labels.read(name, void)
        ids, instances = self.labels.read(name)
        place = np.searchsorted(self.ids, ids).clip(max=self.total - 1)
        known = self.ids[place] == ids
        semantic = np.where(known, place, void).astype(np.uint16)
        if not self.labels.has_instances:
            return PanopticMap.from_maps(semantic, np.zeros_like(semantic))
        numbers = without_bare_ids(instances, ids).astype(np.uint16)
        return to_panoptic(semantic, numbers, self.things, self.total)


def by_place(classes: ClassSet) -> ClassSet:
    """Return the same classes with their places, the trainIds, for ids."""
    table = np.full(VOID + 1, VOID, dtype=np.uint8)
    table[: classes.num_classes] = np.arange(classes.num_classes)
    return replace(classes, from_id=table, ignored={})


def open_guess(labels: Labels, classes: ClassSet, ids: Ids, names: Sequence[str]) -> Guess:
    """Return a prediction as pseudo-classes.

    Args:
        ids: what its ids are, see `FolderSettings`.
        names: frames that are scored.

    Raises:
        UserError: ids that the classes do not name, or too many of them.
    """
    if isinstance(labels, CocoSet):
        guess = open_clusters(labels, names)
        found = None if ids == "clusters" else classes_of_categories(labels, classes)
        if found is not None and found[1]:
            log.warning("%s: void, for no class has these names: %s", labels.path, some(found[1]))
        return replace(guess, named=None if found is None else found[0])
    if ids in ("id", "trainId"):
        known = by_place(classes) if ids == "trainId" else classes
        shared = SharedNumbers()
        for index in spread(len(names)):
            held, instances = labels.read(names[index])
            refuse_other_ids(labels.files[names[index]][0], held, known)
            numbers, thing = without_bare_ids(instances, held), np.isin(known.of_ids(held), known.things)
            refuse_numbers_on_stuff(labels.files[names[index]][1] or labels.path, numbers, thing)
            shared.add(held, numbers)
        shared.refuse_restarts(labels.path)
        held = np.array(known.ids)
        table = known.of_ids(held)
        return Guess(labels, held, tuple(np.flatnonzero(np.isin(table, classes.things)).tolist()), table)
    return open_clusters(labels, names)


def open_clusters(labels: Labels, names: Sequence[str]) -> Guess:
    """Return labels as pseudo-classes without names.

    Those of a COCO set are its categories; of maps of ids, which are all counted, the ids that they hold.
    Things are what the set says; of maps those with most of their pixels inside instances.

    Args:
        names: frames that are counted.

    Raises:
        UserError: only void, too many ids, or instances whose numbers restart in each class.
    """
    if isinstance(labels, CocoSet):
        return Guess(labels, np.arange(len(labels.categories)), labels.things)
    inside: Counter[int] = Counter()
    counts, shared = LabelCounts(), SharedNumbers()
    for name in tqdm(names, desc="count", unit="img"):
        ids, instances = labels.read(name)
        counts.add(labels.files[name][0], ids)
        numbers = without_bare_ids(instances, ids)
        inside.update(_counted(ids[numbers > 0]))
        shared.add(ids, numbers)
    shared.refuse_restarts(labels.path)
    pixels = counts.pixels
    # 255 is void where there are fewer classes than that, and a class where there are more.
    voids = {WIDE_VOID} if max((i for i in pixels if i != WIDE_VOID), default=0) > VOID else {VOID, WIDE_VOID}
    held = sorted(set(pixels) - voids)
    if not held:
        raise UserError(f"{labels.path}: every pixel of the prediction is void; predict again")
    if len(held) >= 16000 or (held[-1] >= FIRST_NUMBERED_ID * 2 and len(held) > VOID):
        raise UserError(
            f"{labels.path}: holds {len(held)} ids up to {held[-1]}: those of instances, not of classes; "
            "semantic and instance files are swapped"
        )
    things = tuple(index for index, label in enumerate(held) if 2 * inside[label] > pixels[label])
    return Guess(labels, np.array(held), things)


def _counted(ids: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(ids, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
