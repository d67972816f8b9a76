"""Ways to number the objects of a clip whose masks are there: what the video report compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from cups.ops.panoptic_map import PanopticMap
from cups.video.tracks import Objects, TrackState, follow, working_size

LEAST_OVERLAP = 0.15
"""IoU from which masks of two frames are one object to the matching frame by frame."""
FRESH = 10**6
"""Numbers of masks that show no true object begin here."""


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """The objects of a frame.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        ids: (H, W) 0 none, 1..D.
        category: (D,).
        truth: the true map, (H, W).
    """

    image: np.ndarray
    ids: np.ndarray
    category: np.ndarray
    truth: PanopticMap


Way = Callable[[FrameObjects], tuple[np.ndarray, np.ndarray]]
"""Objects of the next frame -> category and number (D,) of each."""


def as_counted(frame: FrameObjects) -> tuple[np.ndarray, np.ndarray]:
    """Number the objects of each frame 1, 2, ... by falling area, as labels and predictions of frames do."""
    area = np.bincount(frame.ids.ravel(), minlength=len(frame.category) + 1)[1:]
    number = np.empty(len(area), np.int64)
    number[np.argsort(-area, kind="stable")] = np.arange(1, len(area) + 1)
    return frame.category, number


class FrameByFrame:
    """Gives an object the number of the one that it overlaps most in the frame before (Hungarian, IoU)."""

    def __init__(self) -> None:
        self.ids, self.numbers, self.last = np.zeros((1, 1), np.int64), np.zeros(0, np.int64), 0

    def __call__(self, frame: FrameObjects) -> tuple[np.ndarray, np.ndarray]:
        before = np.broadcast_to(self.ids, frame.ids.shape)
        counts = _joint(before, frame.ids, len(self.numbers), len(frame.category))
        union = counts.sum(axis=0, keepdims=True) + counts.sum(axis=1, keepdims=True) - counts
        overlap = (counts / np.maximum(union, 1))[1:, 1:]
        number = np.zeros(len(frame.category), np.int64)
        for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[row, column] >= LEAST_OVERLAP:
                number[column] = self.numbers[row]
        new = number == 0
        number[new] = self.last + np.arange(1, new.sum() + 1)
        self.last += int(new.sum())
        self.ids, self.numbers = frame.ids, number
        return frame.category, number


class Tracked:
    """Follows objects as `predict.py` does, see `cups.video.tracks`; `votes` as its setting of that name."""

    def __init__(self, categories: int, size: tuple[int, int], votes: bool = False) -> None:
        assert working_size(size) == size, "toy streets are followed at their own size"
        self.state, self.votes = TrackState.empty(size, categories), votes

    def __call__(self, frame: FrameObjects) -> tuple[np.ndarray, np.ndarray]:
        objects = Objects(frame.ids, frame.category, np.ones(len(frame.category)))
        self.state, rows = follow(self.state, frame.image, objects)
        category = self.state.votes[rows].argmax(axis=1) if self.votes else frame.category
        return category, self.state.number[rows]


class TrueNumbers:
    """Gives an object the number of the true object that it shows most of: all that numbers can do.

    Of several masks of one true object in a frame the largest has its number, the others are new.
    """

    def __init__(self) -> None:
        self.numbers: dict[tuple[int, int], int] = {}
        self.last = FRESH

    def __call__(self, frame: FrameObjects) -> tuple[np.ndarray, np.ndarray]:
        truth, count = frame.truth, len(frame.category)
        counts = _joint(frame.ids, truth.ids, count, len(truth.instance) - 1)[1:]
        counts = np.where(truth.instance > 0, counts, 0)
        number = np.zeros(count, np.int64)
        shown = counts.argmax(axis=1) if count else number
        for row in np.argsort(-counts.max(axis=1, initial=0), kind="stable"):
            key = int(truth.category[shown[row]]), int(truth.instance[shown[row]])
            known = self.numbers.setdefault(key, len(self.numbers) + 1)
            if counts[row, shown[row]] and known not in number:
                number[row] = known
        new = number == 0
        number[new] = self.last + np.arange(1, new.sum() + 1)
        self.last += int(new.sum())
        return frame.category, number


COUNTED, OVERLAP, TRACKER, VOTED, TRUE = WAYS = (
    "numbers of each frame",
    "overlap with the frame before",
    "tracker",
    "tracker with votes",
    "true numbers",
)


def ways(categories: int, size: tuple[int, int]) -> dict[str, Way]:
    """Return the ways to number the objects of one clip."""
    trackers = Tracked(categories, size), Tracked(categories, size, votes=True)
    made = (as_counted, FrameByFrame(), *trackers, TrueNumbers())
    return dict(zip(WAYS, made, strict=True))


def _joint(one: np.ndarray, other: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return (rows + 1, columns + 1) pixels that two maps share."""
    joint = one.astype(np.int64) * (columns + 1) + other
    return np.bincount(joint.ravel(), minlength=(rows + 1) * (columns + 1)).reshape(rows + 1, -1)


def objects_of(panoptic: PanopticMap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (H, W) ids 0 none, 1..D of a map's objects, the row of each and its category, (D,) each."""
    rows = np.flatnonzero((panoptic.instance > 0) & (panoptic.areas > 0))
    table = np.zeros(len(panoptic.category), np.int32)
    table[rows] = np.arange(1, len(rows) + 1)
    return table[panoptic.ids], rows, panoptic.category[rows]


def renumbered(
    panoptic: PanopticMap, rows: np.ndarray, category: np.ndarray, number: np.ndarray
) -> PanopticMap:
    """Return a map with other categories and numbers of its objects."""
    categories, instances = panoptic.category.copy(), panoptic.instance.copy()
    categories[rows], instances[rows] = category, number
    return replace(panoptic, category=categories, instance=instances)
