"""Panoptic quality from segment-overlap rows of many images at once; no pixels, no loops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cups.metrics.protocol import VoidRule, check_void_rule

VOID_CLASS = -1
"""Class of a void row after mapping."""

MATCH_IOU = 0.5
"""Kirillov et al. (2019), section 4.1: above one half a match is unique."""


@dataclass(frozen=True, eq=False)
class PanopticCounts:
    """Sums from which panoptic quality follows, each (C,): float64 IoU of matches, int64 counts."""

    iou: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """(C,) float64, TP + FP / 2 + FN / 2; zero for a class that does not occur."""
        return self.true_positives + 0.5 * self.false_positives + 0.5 * self.false_negatives

    def quality(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return PQ, SQ and RQ per class in 0-1, (C,) float64 each; 0 for a class that does not occur."""
        sq = self.iou / np.maximum(self.true_positives, 1)
        rq = self.true_positives / np.where(self.weight > 0, self.weight, 1)
        return sq * rq, sq, rq


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """Segments of many images after mapping clusters to classes.

    Attributes:
        pred_class, pred_area: (P,) int64; class -1 is void.
        target_class, target_area: (T,) int64.
        target_crowd: (T,) bool, a thing without instance: a group that was not told apart.
        pred, target, overlap: (M,) int64, the segments of each overlapping pair and their pixels.
    """

    pred_class: np.ndarray
    pred_area: np.ndarray
    target_class: np.ndarray
    target_area: np.ndarray
    target_crowd: np.ndarray
    pred: np.ndarray
    target: np.ndarray
    overlap: np.ndarray


def segment_table(
    rows: np.ndarray,
    image: np.ndarray,
    pred_class: np.ndarray,
    target_class: np.ndarray,
    is_thing: np.ndarray,
) -> SegmentTable:
    """Return the segments that remapping every pixel would give.

    A segment is (image, class, instance); stuff has no instance. So clusters of one stuff class become one
    segment per image, and objects stay apart as long as their instance ids differ within the image.

    Args:
        rows: (M, 5) integer, as from `cups.metrics.overlap.overlap_rows`.
        image: (M,) int64 >= 0, the image of each row.
        pred_class, target_class: (M,) int64, mapped class of each row, -1 for void.
        is_thing: (C,) bool.
    """
    rows = rows.astype(np.int64, copy=False)
    thing = np.append(is_thing, False)  # index -1 is void, which has no instance either
    pred_instance = np.where(thing[pred_class], rows[:, 1], 0)
    target_instance = np.where(thing[target_class], rows[:, 3], 0)
    pred, pred_first = group_rows(image, pred_class + 1, pred_instance)
    target, target_first = group_rows(image, target_class + 1, target_instance)
    pair, pair_first = group_rows(pred, target)
    overlap = rows[:, 4]
    of_target = target_class[target_first]
    return SegmentTable(
        pred_class=pred_class[pred_first],
        pred_area=sum_pixels(pred, overlap, len(pred_first)),
        target_class=of_target,
        target_area=sum_pixels(target, overlap, len(target_first)),
        target_crowd=thing[of_target] & (target_instance[target_first] == 0),
        pred=pred[pair_first],
        target=target[pair_first],
        overlap=sum_pixels(pair, overlap, len(pair_first)),
    )


def panoptic_counts(
    table: SegmentTable, num_classes: int, void_rule: VoidRule = "standard"
) -> PanopticCounts:
    """Match segments and count.

    `standard` (Kirillov et al. 2019; panopticapi, cityscapesScripts): target void is cut from the union; a
    crowd is neither matched nor missed; an unmatched prediction is no error when more than half of it lies on
    void and on the crowd of its own class. `upstream` (torchmetrics): a crowd is an ordinary segment;
    predicted void, too, is cut from the union, and a target of which more than half is predicted void is not
    missed.
    """
    check_void_rule(void_rule)
    upstream = void_rule == "upstream"
    pred_class, target_class = table.pred_class[table.pred], table.target_class[table.target]
    num_preds, num_targets = len(table.pred_area), len(table.target_area)
    on_void = sum_pixels(table.pred, table.overlap * (target_class == VOID_CLASS), num_preds)
    under_void = sum_pixels(table.target, table.overlap * (pred_class == VOID_CLASS), num_targets)
    crowd = np.zeros(num_targets, dtype=bool) if upstream else table.target_crowd
    same = (pred_class == target_class) & (pred_class != VOID_CLASS)

    union = (
        table.pred_area[table.pred] + table.target_area[table.target] - table.overlap - on_void[table.pred]
    )
    if upstream:
        union = union - under_void[table.target]
    iou = table.overlap / np.maximum(union, 1)
    match = same & ~crowd[table.target] & (iou > MATCH_IOU)

    missed = (table.target_class != VOID_CLASS) & ~crowd
    missed[table.target[match]] = False
    if upstream:
        missed &= 2 * under_void <= table.target_area
    excused = on_void + sum_pixels(table.pred, table.overlap * (same & crowd[table.target]), num_preds)
    false = (table.pred_class != VOID_CLASS) & (2 * excused <= table.pred_area)
    false[table.pred[match]] = False
    return PanopticCounts(
        iou=np.bincount(pred_class[match], weights=iou[match], minlength=num_classes),
        true_positives=np.bincount(pred_class[match], minlength=num_classes),
        false_positives=np.bincount(table.pred_class[false], minlength=num_classes),
        false_negatives=np.bincount(table.target_class[missed], minlength=num_classes),
    )


def group_rows(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct rows of some non-negative columns.

    Returns:
        group: (M,) int64, number of each row; first: (G,) int64, one row of each group.
    """
    key = columns[0]
    for column in columns[1:]:
        # Renumbering before each step keeps the product of the ranges far below 2**63.
        _, key = np.unique(key, return_inverse=True)
        _, compact = np.unique(column, return_inverse=True)
        key = key * (int(compact.max(initial=0)) + 1) + compact
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    return group, first


def sum_pixels(index: np.ndarray, pixels: np.ndarray, size: int) -> np.ndarray:
    """Return (size,) int64, the pixels of each of the segments that `index` numbers."""
    return np.bincount(index, weights=pixels, minlength=size).astype(np.int64)
