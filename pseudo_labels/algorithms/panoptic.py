"""Semantic and instance map as one panoptic map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cups.io.coco_panoptic import (
    to_segments,
)
from cups.ops.components import unify_semantics
from cups.taxonomy import void_value


def to_panoptic(
    semantic: np.ndarray, instance: np.ndarray, things: Sequence[int], num_classes: int
) -> np.ndarray:
    """Return (H, W, 2) int64 of (pseudo-class, instance); void is (`void_value`, 0).

    Each instance takes its majority class; stuff has instance 0. A pixel of a thing class outside every
    instance is void: the labels do not say which object it belongs to, and one segment of all such pixels
    would be an object that nobody proposed.
    """
    void = void_value(num_classes)
    semantic, instance = unify_semantics(semantic, instance, num_classes, void, things)
    is_thing = np.zeros(65536, dtype=bool)
    is_thing[list(things)] = True
    thing_pixel = is_thing[semantic]
    category = np.where(thing_pixel & (instance == 0), void, semantic).astype(np.int64)
    number = np.where(thing_pixel, instance, 0).astype(np.int64)
    return np.stack((category, number), axis=-1)


def merge(semantic: np.ndarray, instance: np.ndarray, things: Sequence[int], num_classes: int) -> np.ndarray:
    """Merge a semantic and an instance map: (H, W) int64 segment ids of `cups.io.coco_panoptic`.

    Each instance takes the majority class of its pixels, of its thing pixels where it has any; one of stuff
    alone joins that stuff. Pixels of a thing class outside every instance are void: what they belong to is
    not known.

    Args:
        semantic: (H, W) classes 0..num_classes-1, void elsewhere.
        instance: (H, W), 0 = none.

    Raises:
        ValueError: 1000 or more objects of one class.
    """
    void = void_value(num_classes)
    semantic, instance = unify_semantics(semantic, instance, num_classes, void, things)
    is_thing = np.zeros(65536, dtype=bool)
    is_thing[list(things)] = True
    thing_pixel = is_thing[semantic]
    category = np.where(thing_pixel & (instance == 0), void, semantic)
    return to_segments(category, np.where(thing_pixel, instance, 0), void)
