"""Connected components of class maps: areas, borders given back, majority classes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Literal

import cc3d
import cv2
import numpy as np

from cups.ops.nearest import from_nearest
from cups.ops.runs import runs_of

MAX_INSTANCES = 65535
"""Instance maps are uint16 with 0 for "none"."""

log = logging.getLogger(__name__)


def relabel_by_area(labels: np.ndarray, min_area: int = 1) -> np.ndarray:
    """Renumber ids 1, 2, ... in falling area; ids smaller than `min_area` pixels become 0.

    Args:
        labels: (H, W) non-negative integers, 0 = none; ids may have gaps.
        min_area: pixels.

    Returns:
        (H, W) uint16. Equal areas keep the order of their old ids. Beyond 65535 ids the smallest are dropped,
        with a warning.
    """
    table = _table_by_area(np.bincount(labels.ravel()), min_area)
    if labels.dtype == table.dtype and (table == np.arange(len(table))).all():
        return labels.copy()
    return _look_up(table, labels)


def _table_by_area(areas: np.ndarray, min_area: int) -> np.ndarray:
    """Return the new id (uint16) of each id, from the areas of the old; entry 0 is "none"."""
    areas = areas.copy()
    areas[:1] = 0
    order = np.argsort(-areas, kind="stable")
    kept = order[: np.count_nonzero(areas >= max(min_area, 1))]
    if len(kept) > MAX_INSTANCES:
        log.warning("%d instances in one image, kept the %d largest", len(kept), MAX_INSTANCES)
        kept = kept[:MAX_INSTANCES]
    table = np.zeros(len(areas), dtype=np.uint16)
    table[kept] = np.arange(1, len(kept) + 1, dtype=np.uint16)
    return table


def _look_up(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return `table[ids]` for ids that are inside the table."""
    # "clip" spares NumPy a buffered copy that "raise" makes.
    return table.take(ids, mode="clip")


def split_components(
    regions: np.ndarray, cut: np.ndarray | None = None, *, min_area: int = 1, dilation: int = 0
) -> np.ndarray:
    """Split class regions into instances along cut pixels.

    8-connected components of each class without its cut pixels; components below `min_area` are dropped; then
    every pixel that the cut left without a component (a cut pixel, or one of a dropped fragment) goes to the
    nearest kept component *of its own class*, at most `dilation` pixels away. Without a cut these are plain
    connected components.

    Args:
        regions: (H, W) non-negative integers, 0 = no thing, other values = class.
        cut: (H, W) bool, True where neighbouring objects are to be separated.
        min_area: pixels, counted before borders are given back.
        dilation: pixels, Euclidean.

    Returns:
        (H, W) uint16, 0 = none, 1, 2, ... in falling area; each id lies in one class.
    """
    components = cut_components(regions, cut)
    return keep_components(components, regions, min_area=min_area, dilation=0 if cut is None else dilation)


def cut_components(
    regions: np.ndarray, cut: np.ndarray | None = None, connectivity: Literal[4, 8] = 8
) -> np.ndarray:
    """Return the connected components of class regions without their cut pixels.

    Args:
        regions: (H, W) non-negative integers, 0 = no thing, other values = class.
        cut: (H, W) bool, see `split_components`.
        connectivity: 8, or 4: without the diagonal neighbours.

    Returns:
        (H, W) unsigned ids in the order of their first pixel, 0 = none.
    """
    kept = regions if cut is None else np.where(cut, np.zeros((), regions.dtype), regions)
    return cc3d.connected_components(np.ascontiguousarray(kept), connectivity=connectivity)


def keep_components(
    components: np.ndarray, regions: np.ndarray, *, min_area: int = 1, dilation: int = 0
) -> np.ndarray:
    """Drop small components and give what is left of their regions to the others: (H, W) uint16 ids.

    The second half of `split_components`, for callers that try several areas on the same components.
    """
    labels = relabel_by_area(components, min_area)
    if dilation < 1 or not labels.any():
        return labels
    return relabel_by_area(give_back(labels, regions, dilation))


def keep_whole_regions(pieces: np.ndarray, connected: np.ndarray, *, min_area: int = 1) -> np.ndarray:
    """Drop small pieces of connected regions without losing pixels: (H, W) uint16 ids in falling area.

    A region of which a piece is kept is shared out whole: every other pixel, cut or of a dropped piece, goes
    to the nearest kept piece of that region. A cut pixel belongs to the object as much as any; and a dropped
    piece hangs together with a kept one, so that it is a rim or a part more often than an object of its own.
    A region of which no piece is large enough, but itself is, stays one instance: a small object can lie on
    the edge with all its pixels.

    Args:
        pieces: (H, W) ids of the parts that a cut leaves of the regions, 0 = cut, or no region.
        connected: (H, W) ids of the connected regions, 0 = none.
        min_area: pixels, of a piece before it is given any, or of a region.
    """
    labels = relabel_by_area(pieces, min_area).astype(np.uint32)
    has_piece = np.zeros(int(connected.max(initial=0)) + 1, dtype=bool)
    has_piece[connected[labels > 0]] = True
    whole = relabel_by_area(np.where(has_piece[connected], 0, connected), min_area)
    labels = np.where(whole > 0, whole + labels.max(initial=0), labels)
    return relabel_by_area(_share_out(labels, connected))


_NEAR = 3
"""Pixels that most cut pixels are from a piece: for these `give_back` is exact, and faster."""


def _share_out(labels: np.ndarray, connected: np.ndarray) -> np.ndarray:
    """Give every pixel of a connected region that has labels the nearest label of that region."""
    result = give_back(labels, connected, _NEAR)
    left = np.unique(connected[(result == 0) & (connected > 0)])
    if not left.size:
        return result
    boxes = cc3d.statistics(connected)["bounding_boxes"]
    for region in left:
        window = boxes[region][:2]
        inside = connected[window] == region
        labelled = inside & (labels[window] > 0)
        if labelled.any():
            rest = inside & (result[window] == 0)
            result[window][rest] = from_nearest(labels[window], labelled)[rest]
    return result


def give_back(labels: np.ndarray, regions: np.ndarray, radius: int) -> np.ndarray:
    """Give each region pixel without label that of the nearest labelled pixel of the same class.

    A search over the offsets of a disc, nearest first, for the unlabelled pixels only: exact like a Euclidean
    distance transform per class. Ties go to the upper, then the left neighbour.

    Args:
        labels: (H, W) integers, 0 = none.
        regions: (H, W) integers, 0 = outside; classes elsewhere.
        radius: pixels, Euclidean, inclusive.

    Returns:
        (H, W), dtype of `labels`.
    """
    padded_labels, padded_regions = np.pad(labels, radius), np.pad(regions, radius)
    result = padded_labels.copy()
    source, classes = padded_labels.ravel(), padded_regions.ravel()
    for offsets, open_pixels in _searches(padded_labels, padded_regions, radius):
        for offset in offsets:
            neighbours = open_pixels + offset
            found = source[neighbours]
            hit = (found != 0) & (classes[neighbours] == classes[open_pixels])
            result.ravel()[open_pixels[hit]] = found[hit]
            open_pixels = open_pixels[~hit]
    return result[radius:-radius, radius:-radius]


_WIDE = 6
"""Radius from which on distances are measured before labels are looked for."""
_MOST_CLASSES = 4
"""Of a map whose distances are measured, class by class."""


def _searches(labels: np.ndarray, regions: np.ndarray, radius: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield offsets, in their order, and the unlabelled pixels that may find a label at one of them.

    A wide disc has a thousand offsets, but a pixel whose distance is known needs those of this length alone.
    """
    width = labels.shape[1]
    offsets = _disc_offsets(radius)
    classes = np.flatnonzero(np.bincount(regions.ravel())[1:]) + 1
    if radius < _WIDE or not 0 < len(classes) <= _MOST_CLASSES:
        unlabelled = np.flatnonzero((labels == 0) & (regions != 0))
        yield [row * width + column for row, column in offsets], unlabelled
        return
    by_length: dict[int, list[int]] = {}
    for row, column in offsets:
        by_length.setdefault(row**2 + column**2, []).append(row * width + column)
    for value in classes:
        open_pixels, squared = _squared_distances(labels, regions == value, radius)
        order = np.argsort(squared, kind="stable")
        ends = np.searchsorted(squared[order], np.arange(radius**2 + 2))
        for length in np.unique(squared).tolist():
            yield by_length[length], open_pixels[order[ends[length] : ends[length + 1]]]


def _squared_distances(labels: np.ndarray, inside: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the unlabelled pixels `inside` within `radius` of a labelled one, and their squared distances.

    OpenCV's precise transform is exact: squares are whole numbers, and small ones survive the root.
    """
    labelled = (labels != 0) & inside
    nothing = np.zeros(0, np.intp), np.zeros(0, np.uint16)
    if not labelled.any():
        return nothing
    distance = cv2.distanceTransform((~labelled).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = np.flatnonzero(inside & (labels == 0) & (distance < radius + 0.01))
    return near, np.rint(np.square(distance.ravel()[near])).astype(np.uint16)


def _disc_offsets(radius: int) -> list[tuple[int, int]]:
    steps = range(-radius, radius + 1)
    offsets = [(row, column) for row in steps for column in steps if 0 < row**2 + column**2 <= radius**2]
    return sorted(offsets, key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset))


def keep_things(objects: np.ndarray, is_thing: np.ndarray, min_share: float, min_area: int) -> np.ndarray:
    """Keep the objects with thing pixels on at least `min_share` of their area.

    Args:
        objects: (H, W) integer ids, 0 = none, which semantics had no part in.
        is_thing: (H, W) bool.
        min_area: pixels; smaller objects are dropped.

    Returns:
        (H, W) uint16, 0 = none, 1, 2, ... in falling area.
    """
    of_object = np.flatnonzero(objects)
    ids = objects.ravel()[of_object]
    areas = np.bincount(ids, minlength=int(objects.max(initial=0)) + 1)
    things = np.bincount(ids[is_thing.ravel()[of_object]], minlength=len(areas))
    kept = np.where(things / np.maximum(1, areas) >= min_share, np.arange(len(areas)), 0)
    return relabel_by_area(_look_up(kept, objects), min_area)


def majority_classes(
    semantic: np.ndarray,
    instance: np.ndarray,
    num_classes: int,
    void: int,
    things: Sequence[int] | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return the most frequent class of every instance id.

    Args:
        semantic: classes 0..num_classes-1, of any shape; anything else counts as void.
        instance: ids of the same shape, 0 = none.
        num_classes: K.
        void: value of an instance without any pixel of a class, and of id 0.
        things: where an instance has a pixel of these classes, only they vote: its mask may come from depth
            and reach over the border of a blurred semantic map.
        weights: pixels that each value stands for; 1 without them.

    Returns:
        (max id + 1,) int64; the lowest class wins a tie.
    """
    inside = (instance > 0) & (semantic < num_classes)
    count = int(instance.max(initial=0)) + 1
    votes = np.bincount(
        instance[inside].astype(np.int64) * num_classes + semantic[inside],
        weights=None if weights is None else weights[inside],
        minlength=count * num_classes,
    ).reshape(count, num_classes)
    if things is not None:
        others = np.setdiff1d(np.arange(num_classes), things)
        votes[np.ix_(votes[:, list(things)].any(axis=1), others)] = 0
    return np.where(votes.any(axis=1), votes.argmax(axis=1), void)


def unify_semantics(
    semantic: np.ndarray,
    instance: np.ndarray,
    num_classes: int,
    void: int,
    things: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the semantic map uniform inside each instance by majority vote; drop instances of void only.

    Args:
        semantic: (H, W) unsigned classes, `void` where unknown.
        instance: (H, W) ids, 0 = none.
        things: see `majority_classes`.

    Returns:
        (semantic, instance): dtype of the input and uint16 numbered 1, 2, ... in falling area.
    """
    (kinds, ids), length = runs_of(semantic, instance)
    classes = majority_classes(kinds, ids, num_classes, void, things, length)
    voted = classes[ids]
    known = (ids > 0) & (voted != void)
    areas = np.bincount(ids[known], None if length is None else length[known], minlength=len(classes))
    unified = np.where(known, voted, kinds).astype(semantic.dtype)
    kept = _table_by_area(areas, 1)[ids]
    if length is not None:
        unified, kept = unified.repeat(length), kept.repeat(length)
    return unified.reshape(semantic.shape), kept.reshape(instance.shape)
