"""What the nearest marked pixel holds."""

from __future__ import annotations

import cv2
import numpy as np


def from_nearest(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Give every pixel the value of the nearest pixel that is `inside`, by Euclidean distance within 2 %.

    Args:
        values: (H, W).
        inside: (H, W) bool, at least one True.
    """
    outside = 1 - np.ascontiguousarray(inside).view(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(
        outside, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(nearest.max()) + 1, dtype=values.dtype)
    table[nearest[inside]] = values[inside]
    return table.take(np.asarray(nearest, dtype=np.int32), mode="clip")
