"""The sparse segment-overlap table of one image: exact, a few kilobytes, in one pass over the pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from cups.ops.panoptic_map import ID_LIMIT, PanopticMap, as_panoptic_map, distinct
from cups.ops.runs import changes, first_pixels, is_worth_it, lengths
from cups.structures import OverlapTable

_DENSE_LIMIT = 2**22
"""Pairs of table rows that are counted by a table of all of them; more are sorted."""


def overlap_table(pred: Any, target: Any) -> OverlapTable:
    """Return the segments of two panoptic maps and how many pixels each pair shares.

    Args:
        pred, target: a `PanopticMap`, or (H, W, 2) integers of (category, instance), both in 0..2**31-1.
            Every pair of values is a segment of its own, void too.

    Raises:
        ValueError: for another shape, no pixels, a dtype that is not integer, or ids outside the range.
    """
    pred, target = as_panoptic_map(pred, "pred"), as_panoptic_map(target, "target")
    if pred.shape != target.shape:
        raise ValueError(f"pred has shape {pred.shape} but target has {target.shape}; they must be equal")
    joint, overlap = _shared_pixels(pred, target)
    size = len(target.category)
    # Rows of one category and instance are one segment; rows without pixels are none.
    preds, pred_of = _segments(pred, joint // size)
    targets, target_of = _segments(target, joint % size)
    pairs, pair_of = distinct(pred_of * len(targets) + target_of)
    return OverlapTable(
        pred_category=preds // ID_LIMIT,
        pred_instance=preds % ID_LIMIT,
        pred_area=_sums(pred_of, overlap, len(preds)),
        target_category=targets // ID_LIMIT,
        target_instance=targets % ID_LIMIT,
        target_area=_sums(target_of, overlap, len(targets)),
        pairs=np.stack(
            (pairs // len(targets), pairs % len(targets), _sums(pair_of, overlap, len(pairs))), axis=1
        ),
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


def _shared_pixels(pred: PanopticMap, target: PanopticMap) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of table rows that share pixels, as predicted row * T + target row, and how many.

    A street scene of 1024x2048 pixels has some 20,000 to 100,000 runs in which neither map changes; a noisy
    map has so many that its pixels are counted instead.
    """
    size, total = len(target.category), len(pred.category) * len(target.category)
    flat = np.ascontiguousarray(pred.ids).reshape(-1), np.ascontiguousarray(target.ids).reshape(-1)
    start = _common_starts(pred, target, flat)
    if start is None and total <= 2**16 and _is_small(pred) and _is_small(target):
        counts = cv2.calcHist([pred.ids, target.ids], [0, 1], None, [256, 256], [0, 256, 0, 256])
        counts = counts[: len(pred.category), :size].astype(np.int64).ravel()
        return np.flatnonzero(counts), counts[counts > 0]
    chosen, length = (slice(None), None) if start is None else (start, lengths(start, len(flat[0])))
    joint = flat[0][chosen].astype(np.intp) * size + flat[1][chosen]
    if total > _DENSE_LIMIT:
        keys, place = distinct(joint)
        return keys, _sums(place, length, len(keys))
    counts = _sums(joint, length, total)
    return np.flatnonzero(counts), counts[counts > 0]


def _common_starts(
    pred: PanopticMap, target: PanopticMap, flat: tuple[np.ndarray, np.ndarray]
) -> np.ndarray | None:
    """Return (R,) rising first pixels of runs in which neither map changes, or None of noisy maps.

    A run may begin twice; its first part has no pixel then.
    """
    if pred.starts is not None and target.starts is not None:
        # Two rising rows: a stable sort merges them.
        start = np.concatenate((pred.starts, target.starts))
        return np.sort(start, kind="stable") if is_worth_it(len(start), pred.ids.size) else None
    changed = changes(*flat)
    return first_pixels(changed) if is_worth_it(int(np.count_nonzero(changed)), pred.ids.size) else None


def _is_small(panoptic: PanopticMap) -> bool:
    """Whether OpenCV counts the ids exactly: bytes, and sums that its float32 holds."""
    return panoptic.ids.dtype == np.uint8 and panoptic.ids.size <= 2**24


def _segments(panoptic: PanopticMap, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rising keys of the segments that have pixels, and the segment of each of `rows`."""
    category, instance = panoptic.category[rows], panoptic.instance[rows]
    keys, place = np.unique(category * ID_LIMIT + instance, return_inverse=True)
    return keys, place


def _sums(index: np.ndarray, weights: np.ndarray | None, size: int) -> np.ndarray:
    """Sum weights, 1 each without them, by index; float64 inside `bincount` is exact below 2**53."""
    return np.bincount(index, weights=weights, minlength=size).astype(np.int64)
