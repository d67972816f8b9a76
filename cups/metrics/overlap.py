"""The sparse segment-overlap table of one image: exact, a few kilobytes, in one pass over the pixels."""

from __future__ import annotations

import numpy as np

from cups.structures import OverlapTable

_ID_LIMIT = 2**31


def overlap_table(pred: np.ndarray, target: np.ndarray) -> OverlapTable:
    """Return the segments of two panoptic maps and how many pixels each pair shares.

    Neighbouring pixels mostly agree, so the maps are first cut into runs in which neither changes (a street
    scene of 1024x2048 pixels has some 20,000 to 100,000); the histogram over runs is then cheap.

    Args:
        pred, target: (H, W, 2) integer maps of (category, instance), both in 0..2**31-1. Every pair of values
            is a segment of its own, void too.

    Raises:
        ValueError: for another shape, no pixels, a dtype that is not integer, or ids outside the range.
    """
    pred, target = _checked(pred, "pred"), _checked(target, "target")
    if pred.shape != target.shape:
        raise ValueError(f"pred has shape {pred.shape} but target has {target.shape}; they must be equal")
    start, length = _runs(pred, target)
    pred_category, pred_instance, pred_of_run = _segments(pred.reshape(-1, 2)[start], "pred")
    target_category, target_instance, target_of_run = _segments(target.reshape(-1, 2)[start], "target")
    num_targets = len(target_category)
    joint, pair_of_run = _compact(pred_of_run * num_targets + target_of_run)
    overlap = _sums(pair_of_run, length, len(joint))
    return OverlapTable(
        pred_category=pred_category,
        pred_instance=pred_instance,
        pred_area=_sums(pred_of_run, length, len(pred_category)),
        target_category=target_category,
        target_instance=target_instance,
        target_area=_sums(target_of_run, length, num_targets),
        pairs=np.stack((joint // num_targets, joint % num_targets, overlap), axis=1),
    )


def overlap_rows(table: OverlapTable) -> np.ndarray:
    """Return the table as (M, 5) int32 rows: category and instance of the prediction, of the target, and
    overlap.

    Rows alone hold everything (areas are their sums), and rows of several images can be concatenated.
    """
    pred, target, overlap = table.pairs.T
    columns = (
        table.pred_category[pred],
        table.pred_instance[pred],
        table.target_category[target],
        table.target_instance[target],
        overlap,
    )
    return np.stack(columns, axis=1).astype(np.int32)


def _checked(panoptic: np.ndarray, name: str) -> np.ndarray:
    panoptic = np.asarray(panoptic)
    if panoptic.ndim != 3 or panoptic.shape[-1] != 2 or panoptic.size == 0:
        raise ValueError(f"{name} must be of shape (H, W, 2) = (category, instance), not {panoptic.shape}")
    if not np.issubdtype(panoptic.dtype, np.integer):
        raise ValueError(f"{name} must hold integer ids, not {panoptic.dtype}")
    return np.ascontiguousarray(panoptic)


def _runs(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return first pixel and length, (R,) int64 each, of the runs in which neither contiguous map changes."""
    pred, target = pred.reshape(-1), target.reshape(-1)
    changed = pred[2:] != pred[:-2]
    changed |= target[2:] != target[:-2]
    # Category and instance lie side by side: seen as one 16-bit number, a pixel changed when either did.
    cut = np.flatnonzero(changed.view(np.uint16) != 0)
    start = np.concatenate(([0], cut + 1))
    return start, np.diff(start, append=len(pred) // 2)


def _segments(ids: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return category and instance of each segment, and the segment of each row of `ids` (R, 2); int64."""
    if ids.min() < 0 or ids.max() >= _ID_LIMIT:
        raise ValueError(f"{name} ids must be in 0..2**31-1, found {ids.min()}..{ids.max()}")
    ids = ids.astype(np.int64)
    keys, index = _compact(ids[:, 0] * _ID_LIMIT + ids[:, 1])
    return keys // _ID_LIMIT, keys % _ID_LIMIT, index


def _compact(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rising unique keys and the position of each key among them."""
    unique = np.unique(keys)
    return unique, np.searchsorted(unique, keys)


def _sums(index: np.ndarray, length: np.ndarray, size: int) -> np.ndarray:
    """Sum run lengths by index; float64 inside `bincount` is exact below 2**53."""
    return np.bincount(index, weights=length, minlength=size).astype(np.int64)
