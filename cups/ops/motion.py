"""Whether a camera moved between two pictures."""

from __future__ import annotations

import numpy as np

EDGE = 12.0
"""Least change of grey levels from pixel to pixel of an edge: well above the noise of a camera."""
LEAST_MOVED = 0.02
"""Share of the edges below which a camera stood still: what a passing car moves, or noise, is about that."""


def moved_edges(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of the edges of one picture, 0-1, that are elsewhere in the other; nan without edges.

    An edge that moved by half a pixel or more changes its grey level by half its contrast or more. Noise,
    brightness within limits and cars in the distance do not.

    Args:
        first, second: (H, W, 3) uint8 of equal size.
    """
    one, two = (image.astype(np.float32).mean(axis=2) for image in (first, second))
    one, two = one - one.mean(), two - two.mean()
    down, across = np.gradient(one)
    contrast = np.hypot(down, across)
    edges = contrast > EDGE
    if not edges.any():
        return float("nan")
    return float((np.abs(one - two)[edges] > contrast[edges] / 2).mean())
