"""Which objects of the ground truth a prediction finds, by their size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cups.metrics.scored_rows import ScoredRows

LEAST_IOU = 0.5
"""Above it, at most one predicted object fits a true one (Kirillov et al., CVPR 2019)."""


def found_by_size(scored: ScoredRows, limits: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Count the objects of each size, and those that a predicted object covers, whatever its class.

    An object is found where its IoU with a predicted one is above 0.5. Pixels without ground truth do not
    count; regions of many objects (crowds) are none.

    Args:
        limits: rising areas in pixels that divide the sizes; an object of just that area is above it.

    Returns:
        All objects and those that are found, (len(limits) + 1,) int64 each.
    """
    image, (_, instance, _, true_instance, overlap) = scored.image, scored.rows.T.astype(np.int64)
    known = scored.target_class >= 0
    things = np.append(scored.is_thing, False)[scored.target_class]
    true_object, true_area = _areas(image, scored.rows[:, 2:4], overlap)
    pred_object, pred_area = _areas(image, scored.rows[:, :2], overlap * known)
    union = true_area[true_object] + pred_area[pred_object] - overlap
    actual = things & (true_instance > 0)
    hit = actual & (instance > 0) & (overlap > LEAST_IOU * union)
    size = np.digitize(true_area, limits)
    counts = (
        np.bincount(size[np.unique(true_object[rows])], minlength=len(limits) + 1) for rows in (actual, hit)
    )
    everything, found = counts
    return everything, found


def _areas(image: np.ndarray, segment: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the segment of each row, counted over all images, and the area of each segment."""
    keys = np.column_stack((image, segment))
    index = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    return index, np.bincount(index, weights=pixels).astype(np.int64)
