"""Panoptic quality by the words of its paper: slow, and short enough to be read beside it."""

from __future__ import annotations

import numpy as np

from cups.taxonomy import VOID, ClassSet


def literal_counts(pred: np.ndarray, target: np.ndarray, classes: ClassSet) -> np.ndarray:
    """Return sum of IoU, true positives, false positives and false negatives of each class: (4, C)."""
    sums = np.zeros((4, classes.num_classes))
    void = target[..., 0] == VOID
    truths = {segment: (target == segment).all(axis=-1) for segment in _segments_of(target)}
    crowds = {segment for segment in truths if segment[1] == 0 and segment[0] in classes.things}
    found = set()
    for segment in _segments_of(pred):
        mask, kind = (pred == segment).all(axis=-1), segment[0]
        for truth, other in truths.items():
            union = np.count_nonzero((mask & ~void) | other)
            iou = np.count_nonzero(mask & other) / union
            if truth[0] == kind and truth not in crowds and iou > 0.5:
                found.add(truth)
                sums[:2, kind] += iou, 1
                break
        else:
            group = truths.get((kind, 0)) if kind in classes.things else None
            excused = void if group is None else void | group
            sums[2, kind] += 2 * np.count_nonzero(mask & excused) <= np.count_nonzero(mask)
    for truth in truths.keys() - crowds - found:
        sums[3, truth[0]] += 1
    return sums


def _segments_of(panoptic: np.ndarray) -> list[tuple[int, int]]:
    pairs = np.unique(panoptic.reshape(-1, 2), axis=0).tolist()
    return [(category, instance) for category, instance in pairs if category != VOID]
