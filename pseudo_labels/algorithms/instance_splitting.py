"""Thing regions to instances: by depth, by slots, or by connection alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import cv2
import numpy as np

from cups.ops.components import cut_components, keep_components, keep_things, relabel_by_area
from cups.ops.depth_edges import REFERENCE_HEIGHT, depth_edges
from cups.ops.ground import ObjectModel, fit_ground, object_regions
from pseudo_labels.inputs.labels import thing_regions
from pseudo_labels.settings.dinosaur import SlotSettings
from pseudo_labels.settings.groups import Cutting, Splitting


def depth_guided_instances(
    semantic: np.ndarray, depth: np.ndarray | None, things: Sequence[int], settings: Splitting
) -> np.ndarray:
    """Return instances of the thing classes: (H, W) uint16, 0 = none, 1, 2, ... in falling area.

    Args:
        semantic: (H, W) uint8 or uint16 classes.
        depth: (h, w) float, positive, the same view at any size; None for plain connected components.
        things: thing classes, ids of the semantic map.
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
    if settings.proposals == "slots":
        components = cut_components(slots)
        if semantic is None:
            return relabel_by_area(components, settings.min_area)
        is_thing = thing_regions(semantic, things, merged=True) > 0
        return keep_things(components, is_thing, settings.min_thing_share, settings.min_area)
    assert semantic is not None
    regions = thing_regions(semantic, things, merged=settings.proposals == "things").astype(np.int32)
    parts = np.where(regions > 0, regions * (int(slots.max()) + 1) + slots, 0)
    components = cut_components(parts)
    return keep_components(components, regions, min_area=settings.min_area, dilation=settings.dilation)


def splits_of(
    regions: np.ndarray, depth: np.ndarray | None, thresholds: Sequence[float | None], settings: Cutting
) -> Iterator[Callable[..., np.ndarray]]:
    """Yield a function for each threshold (None: no depth): `keep(min_area=...)` returns the instances.

    Args:
        regions: (H, W), 0 = no thing (`thing_regions`).
        depth: (h, w) float, positive; None if no threshold needs it.
        settings: what all thresholds share.
    """
    is_thing, strength = regions > 0, None
    if depth is not None:
        if depth.shape != regions.shape:
            # Nearest: a mean of two depths is a surface that does not exist.
            depth = cv2.resize(depth, regions.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        if settings.proposals != "objects":
            strength = depth_edges(depth, settings.sigma, inside=is_thing)
    for threshold in thresholds:
        if threshold is None:
            yield partial(keep_components, cut_components(regions), regions)
        elif strength is not None:
            components = cut_components(regions, strength > threshold)
            yield partial(keep_components, components, regions, dilation=settings.dilation)
        else:
            assert depth is not None, "a threshold needs depth"
            objects = object_proposals(depth, ObjectModel(edge=threshold, blur=settings.depth_blur))
            yield partial(keep_things, objects, is_thing, settings.min_thing_share)
