"""Validation frames of any data set that a description names (`cups.set_files`)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from cups.data.cityscapes import CityscapesPanopticValidation, GroundTruthFrame
from cups.data.encodings import decode, read_instance_ids
from cups.data.layouts import FoundSet, find_frames, is_there, log
from cups.defaults import NUM_CLASSES, VAL_SPLIT
from cups.errors import UserError
from cups.labels.coco_sets import CocoSet, class_table, some
from cups.labels.id_schemes import FIRST_NUMBERED_ID, check_held, check_numbering, refuse_other_ids
from cups.ops.panoptic_map import ID_LIMIT, PanopticMap
from cups.set_files import Encoding, SetFile
from cups.taxonomy import VOID, ClassSet

STRIDE = 2**16
"""An object of a clip is `id * STRIDE + number`: the same in all its frames, and in no other class."""


class DescribedPanopticValidation(CityscapesPanopticValidation):
    """Frames of a data set, as its description says; items as of `CityscapesPanopticValidation`.

    Frames are read one by one. Objects keep their identity through a clip: `instance` is then the same number
    in all frames.

    Args:
        described: the data set.
        root: its folder.
        split, num_classes, scale, crop, max_images, select: as of `CityscapesPanopticValidation`; an empty
            `select` is the description's own.

    Raises:
        UserError: files that are missing, or labels that are not those of the description.
    """

    def __init__(
        self,
        described: SetFile,
        root: Path | str,
        split: str = VAL_SPLIT,
        num_classes: int | ClassSet = NUM_CLASSES,
        scale: float = 1.0,
        crop: tuple[int, int] | None = None,
        max_images: int | None = None,
        select: str = "",
    ) -> None:
        self.described = described
        self.found = FoundSet(())
        super().__init__(root, split, num_classes, scale, crop, max_images, select)

    def list_frames(self, root: Path, split: str) -> list[GroundTruthFrame]:
        """Return the frames of a split."""
        self.found = find_frames(self.described, root, split, self.select)
        return [GroundTruthFrame(one.name, one.image, one.labels, one.instances) for one in self.found.frames]

    @property
    def expected(self) -> int | None:
        """How many frames the split has, None where nobody said."""
        return self.found.expected

    @property
    def clips(self) -> dict[str, list[int]]:
        """Positions of the frames of each clip, in order; none where frames are no video."""
        clips: dict[str, list[int]] = defaultdict(list)
        for index, frame in enumerate(self.frames if self.described.clips else []):
            folder, _, name = frame.stem.rpartition("/")
            clips[folder if self.described.clips == "folder" else name.partition("_")[0]].append(index)
        return dict(clips)

    def check(self) -> None:
        """Refuse ground truth that cannot be scored."""
        if self.found.coco is not None:
            self._table = checked_table(self.found.coco, self.classes)
            return
        if isinstance(self.described.reader, Encoding):
            files = [frame.label_ids for frame in self.frames]
            check_held(files, lambda index: self._read(self.frames[index])[0], self.classes)
            return
        pairs = [(frame.label_ids, frame.instance_ids) for frame in self.frames]
        check_numbering(pairs, lambda index: self._read(self.frames[index])[:2], self.classes)

    def read_target(self, frame: GroundTruthFrame) -> PanopticMap:
        """Read the ground truth of a frame: classes, 255 void; instance 0 of a thing is a crowd.

        Raises:
            UserError: files that cannot be read, or ids that the classes do not name.
        """
        if self.found.coco is not None and self.found.names is not None:
            void = len(self._table)
            target = self.found.coco.read(self.found.names[frame.stem], void)
            return _as_classes(target, self._table)
        ids, numbers, crowd = self._read(frame)
        if not isinstance(self.described.reader, Encoding):  # bare ids: of stuff and of groups
            numbers = np.where(numbers >= FIRST_NUMBERED_ID, numbers, 0)
        # One bit more tells the crowds: a segment has one answer.
        joint = numbers * 2 if crowd is None else numbers * 2 + crowd
        stored = PanopticMap.from_maps(ids, joint, str(frame.label_ids))
        refuse_other_ids(frame.label_ids, stored.category, self.classes)
        return self._target(stored, frame.label_ids)

    def _target(self, stored: PanopticMap, path: Path) -> PanopticMap:
        """Return the map of classes of a map of (id, 2 * number + crowd)."""
        ids, numbers, crowd = stored.category, stored.instance >> 1, (stored.instance & 1) > 0
        category = self.classes.of_ids(ids)
        thing = np.isin(category, self.classes.things)
        identity = np.where(thing & (numbers > 0) & ~crowd, ids * STRIDE + numbers, 0)
        if not self.described.clips:
            identity = np.unique(np.append(identity, 0), return_inverse=True)[1][:-1]
        elif numbers.max(initial=0) >= STRIDE or identity.max(initial=0) >= ID_LIMIT:
            raise UserError(
                f"{path}: numbers an object {numbers.max()}, and {STRIDE - 1} is the highest of a clip; "
                "leave 'clips' out of the description to score its frames one by one"
            )
        return PanopticMap(stored.ids, np.where(crowd & ~thing, VOID, category), identity)

    def _read(self, frame: GroundTruthFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return ids of classes, numbers of objects as stored, and where segments are crowds, (H, W) each."""
        if isinstance(self.described.reader, Encoding):
            return decode((frame.label_ids, frame.instance_ids), self.described.reader)
        numbers = read_instance_ids(frame.instance_ids).astype(np.int64)
        ids = np.where(numbers >= FIRST_NUMBERED_ID, numbers // FIRST_NUMBERED_ID, numbers)
        return ids, numbers, None


def _as_classes(target: PanopticMap, table: np.ndarray) -> PanopticMap:
    return target.with_category(np.append(np.where(table < 0, VOID, table), VOID)[target.category])


def checked_table(coco: CocoSet, classes: ClassSet) -> np.ndarray:
    """Return the class of each category, see `class_table`, and tell which categories have none.

    Raises:
        UserError: no category, or no segment, is of a class.
    """
    table, without = class_table(coco, classes)
    if without:
        log.warning("%s: void, for no class has these names: %s", coco.path, some(without))
    evaluated = {one.id for one, index in zip(coco.categories, table.tolist(), strict=True) if index >= 0}
    if not any(
        category in evaluated for one in coco.annotations.values() for category, _ in one.segments.values()
    ):
        raise UserError(f"{coco.path}: none of its segments is of a class; there is nothing to score")
    return table


def has_ground_truth(described: SetFile, root: Path, split: str) -> bool:
    """Return whether a data root holds ground truth of a split at all."""
    if described.layout is None:
        return CityscapesPanopticValidation.has_ground_truth(root, split)
    return is_there(described, root, split)
