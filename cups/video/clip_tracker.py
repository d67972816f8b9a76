"""One clip's tracker: predictions in, the same with lasting numbers out; it can be stored and go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cups.errors import UserError
from cups.io.coco_panoptic import SEGMENT_FACTOR
from cups.io.files import atomic_write, read_npz
from cups.ops.panoptic_map import number_values
from cups.ops.resize import nearest_indices
from cups.ops.working_size import resize_pixels
from cups.prediction import PanopticPrediction, Segment
from cups.video.clips import Clip
from cups.video.tracks import MOST_NUMBERS, STATE_ARRAYS, Objects, TrackState, follow, working_size

Predicted: TypeAlias = PanopticPrediction
"""What a tracker takes and gives."""
_NAMES = ("done", "skipped")


class ClipTracker:
    """Numbers the objects of a clip, frame after frame; a number stays with its object.

    Args:
        clip: its frames.
        categories: how many there are.
        file: where the state is kept, see `save`.
        votes: an object has the category that most of its score went to so far, over all frames; otherwise
            that of each frame. What votes gain is within chance (`reports/video.md`).

    Attributes:
        done: name of the last frame that was numbered; None before the first.
        skipped: names of frames that were left out.
    """

    def __init__(self, clip: Clip, categories: int, file: Path, votes: bool = False) -> None:
        self.clip, self.categories, self.file, self.votes = clip, categories, file, votes
        self.done: str | None = None
        self.skipped: list[str] = []
        self._place = dict(zip(clip.names, clip.places, strict=True))
        self._state: TrackState | None = None

    def restore(self) -> bool:
        """Go on from the stored state; returns whether there is one of this clip that can be read."""
        if not self.file.is_file():
            return False
        try:
            arrays = read_npz(self.file, (*STATE_ARRAYS, *_NAMES))
        except UserError:
            return False
        done, skipped = (_names(arrays[name]) for name in _NAMES)
        if len(done) != 1 or done[0] not in self._place:
            return False
        state = TrackState(**{name: arrays[name] for name in STATE_ARRAYS})
        if not state.is_whole(self.categories) or not set(skipped) <= set(self.clip.names):
            return False
        self.done, self.skipped, self._state = done[0], skipped, state
        return True

    def forget(self) -> None:
        """Begin the clip anew."""
        self.done, self.skipped, self._state = None, [], None

    def save(self) -> None:
        """Store the state after the last numbered frame, atomically."""
        if self._state is None or self.done is None:
            return
        arrays = {name: getattr(self._state, name) for name in STATE_ARRAYS}
        arrays |= {"done": _bytes([self.done]), "skipped": _bytes(self.skipped)}
        atomic_write(self.file, lambda path: np.savez(path, **arrays))
        if self.done == self.clip.names[-1]:
            self._state = None

    def number(self, name: str, prediction: PanopticPrediction) -> PanopticPrediction:
        """Return the prediction of the next frame with the numbers of its clip, and what was voted."""
        height, width = prediction.ids.shape
        size = self._size((height, width))
        if self._state is None or self._state.ids.shape != size:
            last = 0 if self._state is None else self._state.last
            self._state = replace(TrackState.empty(size, self.categories), last=np.array(last))
        things = [segment for segment in prediction.segments if segment.isthing][:MOST_NUMBERS]
        gap = 1 if self.done is None else max(1, self._place[name] - self._place[self.done])
        small = resize_pixels(prediction.image, size)
        objects = _objects(prediction.ids, things, size)
        self._state, rows = follow(self._state, small, objects, gap)
        category = self._state.votes[rows].argmax(axis=1) if self.votes else objects.category
        number = self._state.number[rows]
        self.done = name
        fresh = (category + 1) * SEGMENT_FACTOR + number
        return _renumbered(prediction, dict(zip([s.id for s in things], fresh.tolist(), strict=True)))

    def _size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the working size of a frame of (H, W) pixels: the clip's, where it has the clip's shape."""
        if self._state is None:
            return working_size(size)
        height, width = self._state.ids.shape
        alike = abs(height * size[1] - width * size[0]) <= max(size)
        return (height, width) if alike else working_size(size)


def _objects(ids: np.ndarray, things: Sequence[Segment], size: tuple[int, int]) -> Objects:
    """Return objects 1, 2, ... in the order of `things`, at the working size; each has a pixel at least."""
    rows, columns = (nearest_indices(*sides).numpy() for sides in zip(ids.shape, size, strict=True))
    numbers, values = number_values(ids[rows[:, None], columns])
    place = {segment.id: index for index, segment in enumerate(things, start=1)}
    small = np.array([place.get(value, 0) for value in values.tolist()], np.int32)[numbers]
    missing = set(range(1, len(things) + 1)) - set(np.unique(small).tolist())
    for index in missing:
        left, top, right, bottom = things[index - 1].box
        y, x = (top + bottom) * size[0] // (2 * ids.shape[0]), (left + right) * size[1] // (2 * ids.shape[1])
        small[min(y, size[0] - 1), min(x, size[1] - 1)] = index
    score = np.array([segment.score or 0.0 for segment in things])
    return Objects(small, np.array([segment.category for segment in things], np.int64), score)


def _renumbered(prediction: PanopticPrediction, fresh: dict[int, int]) -> PanopticPrediction:
    """Give objects other ids; those without a new one join the group of their category, number 0."""
    numbers, values = number_values(prediction.ids)
    table = np.zeros(len(values), np.int32)
    segments: dict[int, Segment] = {}
    for segment in prediction.segments:
        new = fresh.get(segment.id, segment.id - segment.id % SEGMENT_FACTOR)
        table[np.searchsorted(values, segment.id)] = new
        renamed = _renamed(segment, new, prediction)
        segments[new] = _joined(segments[new], renamed) if new in segments else renamed
    ordered = tuple(sorted(segments.values(), key=lambda segment: -segment.area))
    return replace(prediction, ids=table[numbers], segments=ordered)


def _renamed(segment: Segment, new: int, prediction: PanopticPrediction) -> Segment:
    category, number = new // SEGMENT_FACTOR - 1, new % SEGMENT_FACTOR
    name, score = prediction.categories.names[category], segment.score if number else None
    return replace(segment, id=new, category=category, name=name, isthing=number > 0, score=score)


def _joined(one: Segment, other: Segment) -> Segment:
    low = [min(sides) for sides in zip(one.box[:2], other.box[:2], strict=True)]
    high = [max(sides) for sides in zip(one.box[2:], other.box[2:], strict=True)]
    return replace(one, area=one.area + other.area, box=(low[0], low[1], high[0], high[1]))


def _bytes(names: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\0".join(names).encode("utf-8", "surrogateescape"), dtype=np.uint8)


def _names(data: np.ndarray) -> list[str]:
    text = data.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
    return text.split("\0") if text else []
