"""Which objects of the ground truth a prediction finds, by their size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cups.metrics.scored_rows import ScoredRows
from cups.metrics.segments import MATCH_IOU, group_rows, sum_pixels


def found_by_size(scored: ScoredRows, limits: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Count the objects of each size, and those that a predicted object covers, whatever its class.

    An object is found where its IoU with a predicted one is above 0.5. Pixels without ground truth do not
    count; regions of many objects (crowds) are none.

    Args:
        limits: rising areas in pixels that divide the sizes; an object of just that area is above it.

    Returns:
        All objects and those that are found, (len(limits) + 1,) int64 each.
    """
    category, instance, true_category, true_instance, overlap = scored.rows.T.astype(np.int64)
    known = scored.target_class >= 0
    things = np.append(scored.is_thing, False)[scored.target_class]
    true_object, true_first = group_rows(scored.image, true_category, true_instance)
    pred_object, pred_first = group_rows(scored.image, category, instance)
    true_area = sum_pixels(true_object, overlap, len(true_first))
    pred_area = sum_pixels(pred_object, overlap * known, len(pred_first))
    union = true_area[true_object] + pred_area[pred_object] - overlap
    actual = things & (true_instance > 0)
    hit = actual & (instance > 0) & (overlap > MATCH_IOU * union)
    size = np.digitize(true_area, limits)
    counts = (
        np.bincount(size[np.unique(true_object[rows])], minlength=len(limits) + 1) for rows in (actual, hit)
    )
    everything, found = counts
    return everything, found
