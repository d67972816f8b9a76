"""Which pseudo-classes are things, told without depth: by where their regions lie in the image."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np

from pseudo_labels.algorithms.thing_stuff import SMALLEST_REGION

MIDDLE_SLOPE = 3.0
"""How fast the score falls from the middle row: it is 0 a third of the height above or below it."""


@dataclass(frozen=True)
class ShapeSums:
    """Sums over frames, each (K,) float64; they add up.

    Attributes:
        frames: frames in which the class occurs.
        pixels: all its pixels, as shares of an image.
        inside: those in 8-connected regions (without specks) that touch no border of the image.
        row: rows of all its pixels as shares of the height, summed over `pixels`.
    """

    frames: np.ndarray
    pixels: np.ndarray
    inside: np.ndarray
    row: np.ndarray

    def __add__(self, other: ShapeSums) -> ShapeSums:
        """Sum of two sets of frames."""
        return ShapeSums(
            self.frames + other.frames,
            self.pixels + other.pixels,
            self.inside + other.inside,
            self.row + other.row,
        )


def shape_sums(semantic: np.ndarray, num_classes: int) -> ShapeSums:
    """Gather the sums of one frame: (H, W) classes; values from `num_classes` on are void."""
    labels = np.minimum(semantic, num_classes)
    height, width = labels.shape
    # Classes from 1: the library takes 0 for background.
    regions = cc3d.connected_components(labels.astype(np.uint32) + 1, connectivity=8)
    statistics = cc3d.statistics(regions, no_slice_conversion=True)
    boxes = statistics["bounding_boxes"]
    top, bottom, left, right = boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]
    closed = (top > 0) & (left > 0) & (bottom < height - 1) & (right < width - 1)
    closed &= statistics["voxel_counts"] >= SMALLEST_REGION * labels.size
    rows = np.repeat((np.arange(height) + 0.5) / height, width)

    def count(weights: np.ndarray) -> np.ndarray:
        counted = np.bincount(labels.ravel(), weights.ravel(), minlength=num_classes + 1)
        return counted[:num_classes] / labels.size

    pixels = count(np.ones(labels.shape))
    return ShapeSums((pixels > 0).astype(np.float64), pixels, count(closed[regions]), count(rows))


def shape_scores(sums: ShapeSums) -> np.ndarray:
    """Return (K,) scores in 0-1 by which `choose_things` tells things; classes that do not occur get 0.

    The share of a class's pixels in closed regions, times a triangle over its mean row that is 1 in the
    middle of the image. Street, sky and walls run out of the picture or lie at its top or bottom; objects
    stand in it, about the horizon. So it needs a camera that looks ahead.
    """
    whole = np.maximum(sums.pixels, 1e-12)
    middle = np.clip(1 - MIDDLE_SLOPE * np.abs(sums.row / whole - 0.5), 0, 1)
    return np.where(sums.pixels > 0, sums.inside / whole * middle, 0.0)
