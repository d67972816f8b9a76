"""Thing regions to instances: by depth, by slots, or by connection alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import cv2
import numpy as np

from cups.ops.components import (
    cut_components,
    keep_components,
    keep_things,
    keep_whole_regions,
    relabel_by_area,
)
from cups.ops.depth_edges import REFERENCE_HEIGHT, depth_edges, linear_edges, resize_depth
from cups.ops.ground import ObjectModel, fit_ground, object_regions
from pseudo_labels.inputs.labels import thing_regions
from pseudo_labels.settings.dinosaur import SlotSettings
from pseudo_labels.settings.groups import Cutting, Splitting
from pseudo_labels.settings.outlines import length_of, pixels_of


def depth_guided_instances(
    semantic: np.ndarray, depth: np.ndarray | None, things: Sequence[int], settings: Splitting
) -> np.ndarray:
    """Return instances of the thing classes: (H, W) uint16, 0 = none, 1, 2, ... in falling area.

    Args:
        semantic: (H, W) uint8 or uint16 classes.
        depth: (h, w) float, positive, the same view at any size; None for plain connected components.
        things: thing classes, ids of the semantic map.
        settings: decided, see `Splitting.for_depth`.
    """
    regions = thing_regions(semantic, things, merged=settings.proposals != "classes")
    threshold = None if depth is None else settings.grad_threshold
    (keep,) = splits_of(regions, depth, (threshold,), settings)
    return keep(min_area=settings.min_area)


def object_proposals(depth: np.ndarray, model: ObjectModel) -> np.ndarray:
    """Return the object-like regions of a depth map, which semantics have no part in.

    Args:
        depth: (H, W) float, positive, any unit. Without a street in it there are no objects.

    Returns:
        (H, W) uint16 ids, 0 = none.
    """
    # At full size the outlines would not be better, and the street is found as well in fewer pixels.
    height = min(depth.shape[0], REFERENCE_HEIGHT)
    size = (max(1, round(depth.shape[1] * height / depth.shape[0])), height)
    small = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    ground = fit_ground(small)
    if ground is None:
        return np.zeros(depth.shape, dtype=np.uint16)
    objects = object_regions(small, ground, model)
    if objects.shape != depth.shape:
        objects = cv2.resize(objects, depth.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return objects


def slot_instances(
    slots: np.ndarray, semantic: np.ndarray | None, things: Sequence[int], settings: SlotSettings
) -> np.ndarray:
    """Return instances from slots: (H, W) uint16, 0 = none, 1, 2, ... in falling area.

    Args:
        slots: (H, W) integers, the slot of each pixel.
        semantic: (H, W) uint8 or uint16 classes; None only if the settings need none.
        things: thing classes, ids of the semantic map.
    """
    slots = slots.astype(np.int32) + 1
    min_area = pixels_of(settings.min_area, slots.shape[0])
    if settings.proposals == "slots":
        components = cut_components(slots)
        if semantic is None:
            return relabel_by_area(components, min_area)
        is_thing = thing_regions(semantic, things, merged=True) > 0
        return keep_things(components, is_thing, settings.min_thing_share, min_area)
    assert semantic is not None
    regions = thing_regions(semantic, things, merged=settings.proposals == "things").astype(np.int32)
    parts = np.where(regions > 0, regions * (int(slots.max()) + 1) + slots, 0)
    components = cut_components(parts)
    if settings.dilation is None:
        return keep_whole_regions(components, cut_components(regions), min_area=min_area)
    reach = length_of(settings.dilation, slots.shape[0])
    return keep_components(components, regions, min_area=min_area, dilation=reach)


def splits_of(
    regions: np.ndarray, depth: np.ndarray | None, thresholds: Sequence[float | None], settings: Cutting
) -> Iterator[Callable[..., np.ndarray]]:
    """Yield a function for each threshold (None: no depth): `keep(min_area=...)` returns the instances.

    `min_area` is in pixels of an image with `REFERENCE_ROWS` rows.

    Args:
        regions: (H, W), 0 = no thing (`thing_regions`).
        depth: (h, w) float, positive, the same view; None if no threshold needs it.
        settings: what all thresholds share, decided (`Cutting.for_depth`).
    """
    if settings.edge == "linear":
        splits = _linear_splits(regions, depth, thresholds, settings)
    elif settings.proposals == "objects":
        splits = _object_splits(regions, depth, thresholds, settings)
    else:
        splits = _log_splits(regions, depth, thresholds, settings)
    for keep in splits:
        yield partial(_keep_in_pixels, keep, regions.shape[0])


def _keep_in_pixels(keep: Callable[..., np.ndarray], rows: int, min_area: int) -> np.ndarray:
    return keep(min_area=pixels_of(min_area, rows))


Splits = Iterator[Callable[..., np.ndarray]]


def _linear_splits(
    regions: np.ndarray, depth: np.ndarray | None, thresholds: Sequence[float | None], settings: Cutting
) -> Splits:
    strength = None if depth is None else linear_edges(depth, regions.shape, settings.sigma)
    reach = length_of(settings.dilation or 0, regions.shape[0])
    for threshold in thresholds:
        cut = None if threshold is None or strength is None else strength > threshold
        components = cut_components(regions, cut, connectivity=4)
        yield partial(keep_components, components, regions, dilation=0 if cut is None else reach)


def _object_splits(
    regions: np.ndarray, depth: np.ndarray | None, thresholds: Sequence[float | None], settings: Cutting
) -> Splits:
    blur = settings.depth_blur or 0.0
    if depth is not None:
        depth = resize_depth(depth, regions.shape, sharp=not blur)
    for threshold in thresholds:
        if threshold is None:
            yield partial(keep_components, cut_components(regions), regions)
        else:
            assert depth is not None, "a threshold needs depth"
            objects = object_proposals(depth, ObjectModel(edge=threshold, blur=blur))
            yield partial(keep_things, objects, regions > 0, settings.min_thing_share)


def _log_splits(
    regions: np.ndarray, depth: np.ndarray | None, thresholds: Sequence[float | None], settings: Cutting
) -> Splits:
    strength, connected = None, cut_components(regions)
    if depth is not None:
        depth = resize_depth(depth, regions.shape, sharp=not settings.depth_blur)
        strength = depth_edges(depth, settings.sigma, inside=regions > 0)
    for threshold in thresholds:
        if threshold is None or strength is None:
            yield partial(keep_components, connected, regions)
            continue
        pieces = cut_components(regions, strength > threshold)
        if settings.dilation is None:
            yield partial(keep_whole_regions, pieces, connected)
        else:
            reach = length_of(settings.dilation, regions.shape[0])
            yield partial(keep_components, pieces, regions, dilation=reach)
