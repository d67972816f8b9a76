"""Where a map of labels changes."""

from __future__ import annotations

import numpy as np


def label_borders(labels: np.ndarray, void: int | None = None, both_sides: bool = True) -> np.ndarray:
    """Return the pixels at which a label meets another one above, below, left or right of it.

    Args:
        labels: (H, W) integers.
        void: a label whose borders do not count; None: all count.
        both_sides: else only the lower or right pixel of each pair, which makes lines one pixel wide.

    Returns:
        (H, W) bool.
    """
    borders = np.zeros(labels.shape, dtype=bool)
    for ids, marked in ((labels, borders), (labels.T, borders.T)):
        changes = ids[1:] != ids[:-1]
        if void is not None:
            changes &= (ids[1:] != void) & (ids[:-1] != void)
        marked[1:] |= changes
        if both_sides:
            marked[:-1] |= changes
    return borders
