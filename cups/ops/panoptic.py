"""Semantic and instance map as one panoptic map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cups.ops.components import unify_semantics
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import void_value


def to_panoptic(
    semantic: np.ndarray, instance: np.ndarray, things: Sequence[int], num_classes: int
) -> PanopticMap:
    """Merge a semantic and an instance map; void is (`void_value`, 0).

    Each instance takes the majority class of its pixels, of its thing pixels where it has any; one of stuff
    alone joins that stuff, which has instance 0. A pixel of a thing class outside every instance is void: the
    labels do not say which object it belongs to, and one segment of all such pixels would be an object that
    nobody proposed.

    Args:
        semantic: (H, W) classes 0..num_classes-1, void elsewhere.
        instance: (H, W), 0 = none.
    """
    void = void_value(num_classes)
    semantic, instance = unify_semantics(semantic, instance, num_classes, void, things)
    is_thing = np.zeros(65536, dtype=bool)
    is_thing[list(things)] = True
    thing_pixel = is_thing[semantic]
    category = np.where(thing_pixel & (instance == 0), void, semantic)
    return PanopticMap.from_maps(category, np.where(thing_pixel, instance, 0))
