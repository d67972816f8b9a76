"""Objects followed through a clip: overlap after warping with flow, colour, and a short memory."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from cups.ops.flow import carry, gray, scene_flow

WORKING_SIDE = 512
"""Pixels of the longer side at which frames are compared."""
MEMORY = 8
"""Frames for which an object that is not seen is remembered."""
MOST_NUMBERS = 999
"""Numbers of a clip. After them, those longest out of use are given again."""
LEAST_OVERLAP, LEAST_OVERLAP_OF_OTHERS = 0.15, 0.25
"""IoU after warping from which two masks of one category, or of two, may be one object."""
COLOUR_WEIGHT = 0.3
"""Of the likeness of colours beside the IoU."""
CATEGORY_WEIGHT = 0.2
"""Of an equal category."""
LEAST_LIKENESS = 0.8
"""Of colours, from which an object is found again by place, size and colour alone."""
REACH = 1.5
"""How far from its expected place an object is found again, in square roots of its area."""
LARGEST_CHANGE, SMALLEST_CHANGE = 2.5, 0.1
"""Ratios of areas between which an object is found again: at first little of it comes from behind another."""
WHOLE = 0.7
"""Share of its remembered area from which an object counts as seen whole, and its place as known."""
SHRINKING = 0.8
"""Of the remembered area, in a frame: what is seen may shrink faster, for something is in front."""
FADING = 0.7
"""Weight of the past in an object's colours, for each frame in which it is seen."""
BINS = (4, 8, 8)
"""Of lightness and the two colours of CIELAB."""
COLOUR_STEP = 8
"""Levels of a bin of colour, around grey; beyond, the outermost bin."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a frame.

    Attributes:
        ids: (h, w) integer, 0 no object, 1..D.
        category: (D,) int64.
        score: (D,) float, 0-1.
    """

    ids: np.ndarray
    category: np.ndarray
    score: np.ndarray


@dataclass(frozen=True, eq=False)
class TrackState:
    """What is remembered of a clip up to a frame; arrays alone, so that it can be stored.

    Attributes:
        number: (N,) int64, 1..`MOST_NUMBERS`, of each object that is followed.
        unseen: (N,) int64 frames since it was seen last, 0: it is in the last frame.
        centre, velocity: (N, 2) float64 (x, y), pixels of the working size, and per frame.
        area: (N,) float64 pixels, as far as it is known behind others.
        colours: (N, B) float64 histogram, sum 1.
        votes: (N, C) float64 score that each category has got.
        ids: (h, w) int32 of the last frame, 0 no object, else row + 1; objects that are not in it have the
            place that flow carried them to, where no other is.
        picture: (h, w) uint8 brightness of the last frame.
        last: () int64, the number given last.
    """

    number: np.ndarray
    unseen: np.ndarray
    centre: np.ndarray
    velocity: np.ndarray
    area: np.ndarray
    colours: np.ndarray
    votes: np.ndarray
    ids: np.ndarray
    picture: np.ndarray
    last: np.ndarray

    @classmethod
    def empty(cls, size: tuple[int, int], categories: int) -> TrackState:
        """Return the state before the first frame of a clip.

        Args:
            size: (h, w) at which frames are compared, see `working_size`.
        """
        none, pairs = np.zeros(0), np.zeros((0, 2))
        colours, votes = np.zeros((0, int(np.prod(BINS)))), np.zeros((0, categories))
        numbers = none.astype(np.int64)
        ids, picture = np.zeros(size, np.int32), np.zeros(size, np.uint8)
        return cls(numbers, numbers, pairs, pairs, none, colours, votes, ids, picture, np.array(0))

    def is_whole(self, categories: int) -> bool:
        """Return whether the arrays fit each other; a stored state may be another program's."""
        count = len(self.number) if self.number.ndim == 1 else -1
        shapes = {
            "unseen": (count,), "centre": (count, 2), "velocity": (count, 2), "area": (count,),
            "colours": (count, int(np.prod(BINS))), "votes": (count, categories), "last": (),
        }  # fmt: skip
        fitting = all(getattr(self, name).shape == shape for name, shape in shapes.items())
        maps = self.ids.ndim == 2 and self.ids.shape == self.picture.shape and self.picture.dtype == np.uint8
        whole = all(getattr(self, name).dtype.kind == "i" for name in ("number", "unseen", "ids", "last"))
        return fitting and maps and whole and int(self.ids.min()) >= 0 and int(self.ids.max()) <= count

    def rows(self, chosen: np.ndarray) -> TrackState:
        """Return the state with these of its rows, an index or (N,) bool; `ids` stay as they are."""
        columns = ("number", "unseen", "centre", "velocity", "area", "colours", "votes")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})


STATE_ARRAYS = tuple(field.name for field in fields(TrackState))


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (h, w) at which frames of (H, W) pixels are compared."""
    scale = min(1.0, WORKING_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def follow(
    state: TrackState, image: np.ndarray, objects: Objects, gap: int = 1
) -> tuple[TrackState, np.ndarray]:
    """Find the objects of the next frame again.

    Each pixel of the frame is looked up in the last one by flow, where that agrees with the flow back. Pairs
    of objects whose masks then overlap are matched so that overlap and likeness of colour are largest
    together (Hungarian method). The masks of objects that were missed in the last `MEMORY` frames are carried
    on by flow and take part. What is left is looked for among all these objects by its expected place, size,
    category and colours. The rest is new.

    Args:
        state: of the frames before.
        image: (h, w, 3) uint8 RGB at the working size.
        objects: of the frame, ids at the working size; `MOST_NUMBERS` at most.
        gap: frames since the last one.

    Returns:
        The state with this frame, and the row in it, (D,) int64, of each object.
    """
    seen = _described(image, objects, state.votes.shape[1])
    picture = gray(image)
    flow, sure = _flow(picture, state)
    if not sure.any():
        state = replace(state.rows(np.zeros(0, np.intp)), ids=np.zeros_like(state.ids))
    else:
        state = replace(state, centre=state.centre + gap * state.velocity, unseen=state.unseen + gap)
    found, carried = np.full(len(objects.category), -1), carry(state.ids, flow)
    if len(state.number) and len(found):
        overlap = _overlap(carried, objects.ids, sure, (len(state.number), len(found)))
        likeness = np.sqrt(state.colours) @ np.sqrt(seen.colours).T
        same = state.votes.argmax(axis=1)[:, None] == objects.category[None]
        allowed = overlap >= np.where(same, LEAST_OVERLAP, LEAST_OVERLAP_OF_OTHERS)
        gain = overlap + COLOUR_WEIGHT * likeness + CATEGORY_WEIGHT * same
        _assign(found, gain, allowed)
        closeness, near = _nearness(state, seen)
        _assign(found, likeness + closeness, near & same & (likeness >= LEAST_LIKENESS))
    moved = -_mean_flow(flow, objects.ids, sure, len(found)) / gap
    seen = replace(seen, velocity=moved, picture=picture, ids=objects.ids)
    return _updated(state, seen, carried, found, gap)


def _flow(picture: np.ndarray, state: TrackState) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow to the last frame and where it is sure; nowhere in the first frame and after a cut."""
    if state.picture.any():
        return scene_flow(picture, state.picture)
    return np.zeros((*picture.shape, 2), np.float32), np.zeros(picture.shape, dtype=bool)


def _described(image: np.ndarray, objects: Objects, categories: int) -> TrackState:
    """Return the objects of a frame as a state of their own; numbers and velocities are not known yet."""
    count = len(objects.category)
    flat = objects.ids.ravel()
    area = np.bincount(flat, minlength=count + 1)[1:].astype(np.float64)
    height, width = objects.ids.shape
    x, y = np.tile(np.arange(width), height), np.repeat(np.arange(height), width)
    sums = [np.bincount(flat, weights=place, minlength=count + 1)[1:] for place in (x, y)]
    votes = np.zeros((count, categories))
    votes[np.arange(count), objects.category] = np.maximum(objects.score, 1e-3)
    centre = np.stack(sums, axis=1) / np.maximum(area, 1)[:, None]
    none = np.zeros(count, np.int64)
    empty = TrackState.empty((1, 1), categories)
    return replace(
        empty, number=none, unseen=none, centre=centre, velocity=np.zeros((count, 2)), area=area,
        colours=_histograms(image, flat, count), votes=votes,
    )  # fmt: skip


def _histograms(image: np.ndarray, flat: np.ndarray, count: int) -> np.ndarray:
    """Return (D, B) shares of the colours of each object."""
    lab = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.int64)
    light = lab[:, 0] * BINS[0] // 256
    one, two = (
        np.clip((lab[:, axis] - 128) // COLOUR_STEP + BINS[axis] // 2, 0, BINS[axis] - 1) for axis in (1, 2)
    )
    size = int(np.prod(BINS))
    key = flat.astype(np.int64) * size + (light * BINS[1] + one) * BINS[2] + two
    counts = np.bincount(key, minlength=(count + 1) * size).reshape(-1, size)[1:].astype(np.float64)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _overlap(before: np.ndarray, now: np.ndarray, sure: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the (N, D) IoU of carried and present masks, over the pixels whose flow is sure."""
    rows, columns = shape[0] + 1, shape[1] + 1
    joint = before[sure].astype(np.int64) * columns + now[sure]
    counts = np.bincount(joint, minlength=rows * columns).reshape(rows, columns)
    union = counts.sum(axis=1, keepdims=True) + counts.sum(axis=0, keepdims=True) - counts
    return (counts / np.maximum(union, 1))[1:, 1:]


def _nearness(state: TrackState, seen: TrackState) -> tuple[np.ndarray, np.ndarray]:
    """Return how close each object is to where each followed one is expected, 0-1, and which may be which."""
    side = np.sqrt(np.maximum(state.area, 1))[:, None]
    away = np.linalg.norm(state.centre[:, None] - seen.centre[None], axis=2) / side
    ratio = np.maximum(seen.area[None], 1) / np.maximum(state.area[:, None], 1)
    alike = (ratio <= LARGEST_CHANGE) & (ratio >= SMALLEST_CHANGE)
    return np.clip(1 - away / REACH, 0, 1), (away <= REACH) & alike


def _assign(found: np.ndarray, gain: np.ndarray, allowed: np.ndarray) -> None:
    """Match rows and columns that are free so that the total gain is largest; note the rows in `found`."""
    rows = np.setdiff1d(np.arange(len(gain)), found)
    columns = np.flatnonzero(found < 0)
    part, may = gain[np.ix_(rows, columns)], allowed[np.ix_(rows, columns)]
    if may.any():
        for row, column in zip(*linear_sum_assignment(np.where(may, part, 0), maximize=True), strict=True):
            if may[row, column]:
                found[columns[column]] = rows[row]


def _mean_flow(flow: np.ndarray, ids: np.ndarray, sure: np.ndarray, count: int) -> np.ndarray:
    """Return the (D, 2) mean flow of each object, over the pixels whose flow is sure; 0 without such."""
    flat = ids[sure]
    number = np.maximum(np.bincount(flat, minlength=count + 1), 1)
    sums = [np.bincount(flat, weights=flow[..., axis][sure], minlength=count + 1) for axis in (0, 1)]
    mean: np.ndarray = (np.stack(sums, axis=1) / number[:, None])[1:]
    return mean


def _updated(
    state: TrackState, seen: TrackState, carried: np.ndarray, found: np.ndarray, gap: int
) -> tuple[TrackState, np.ndarray]:
    """Return the state after a frame and the row in it of each object of the frame.

    Args:
        carried: (h, w) ids of the state, where flow carries them.
        found: (D,) row of each object in the state, -1 of new ones.
    """
    again = found >= 0
    past = state.rows(found[again])
    rest = np.setdiff1d(np.arange(len(state.number)), found)
    rest = rest[state.unseen[rest] <= MEMORY]
    # Where numbers become short, what was seen longest ago is forgotten first.
    rest = rest[np.argsort(state.unseen[rest], kind="stable")][: max(0, MOST_NUMBERS - len(found))]
    rest = np.sort(rest)
    lost = state.rows(rest)
    numbers, last = _new_numbers({*past.number, *lost.number}, int(state.last), int((~again).sum()))
    number = np.empty(len(found), np.int64)
    number[again], number[~again] = past.number, numbers
    votes, colours, area = seen.votes.copy(), seen.colours.copy(), seen.area.copy()
    votes[again] += past.votes
    area[again] = np.maximum(area[again], SHRINKING * past.area)
    centre, velocity = seen.centre.copy(), seen.velocity.copy()
    centre[again], velocity[again] = _motion(past, seen.rows(again), gap)
    colours[again] = FADING * past.colours + (1 - FADING) * colours[again]
    joined = {
        "number": number, "unseen": np.zeros(len(found), np.int64), "centre": centre,
        "velocity": velocity, "area": area, "colours": colours, "votes": votes,
    }  # fmt: skip
    columns = {name: np.concatenate((value, getattr(lost, name))) for name, value in joined.items()}
    place = np.zeros(len(state.number) + 1, np.int32)
    place[rest + 1] = len(found) + 1 + np.arange(len(rest))
    ids = np.where(seen.ids > 0, seen.ids, place[carried]).astype(np.int32)
    after = replace(state, **columns, ids=ids, picture=seen.picture, last=np.array(last))
    return after, np.arange(len(found))


def _motion(past: TrackState, now: TrackState, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Return place and velocity of objects that were found again; half hidden ones go on as expected."""
    whole = (now.area >= WHOLE * past.area)[:, None]
    moved = (now.centre - past.centre) / gap + past.velocity  # `past.centre` is where it was expected
    return np.where(whole, now.centre, past.centre), np.where(
        whole, (past.velocity + moved) / 2, past.velocity
    )


def _new_numbers(taken: set[int], last: int, count: int) -> tuple[np.ndarray, int]:
    """Return numbers that are not taken, and the last one; after the greatest they begin anew."""
    numbers: list[int] = []
    while len(numbers) < count:
        last = last % MOST_NUMBERS + 1
        if last not in taken:
            numbers.append(last)
    return np.array(numbers, dtype=np.int64), last
