"""Video metrics from segment-overlap rows of whole clips: association quality, panoptic quality of windows.

A tube is a segment over several frames of a clip: the pixels of one class and one object. Rows of one frame
(`cups.metrics.overlap.overlap_rows`) that are given one group number are joined to tubes by
`cups.metrics.segments.segment_table`, so no pixel is looked at twice and a clip may be of any length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cups.metrics.protocol import VoidRule
from cups.metrics.segments import PanopticCounts, panoptic_counts, segment_table

WINDOWS_AT_ONCE = 4096
"""Windows whose rows are held in memory together."""


@dataclass(frozen=True, eq=False)
class ClipRows:
    """Overlap rows of all frames, with their place in time, after mapping clusters to classes.

    Attributes:
        rows: (M, 5) integer, as from `cups.metrics.overlap.overlap_rows`.
        clip: (M,) int64 >= 0, the clip of each row.
        place: (M,) int64, 0 is the first frame of the clip, 1 the next one, without gaps.
        length: (M,) int64, frames of the clip.
        pred_class, target_class: (M,) int64 mapped class, -1 for void.
        is_thing: (C,) bool.
    """

    rows: np.ndarray
    clip: np.ndarray
    place: np.ndarray
    length: np.ndarray
    pred_class: np.ndarray
    target_class: np.ndarray
    is_thing: np.ndarray


def association_quality(clips: ClipRows, classes: np.ndarray | None = None) -> float:
    """Return AQ, 0-1: how well the pixels of each object keep one identity through its clip.

    Every object of the ground truth weighs the same. Over the tubes p of things that overlap an object g:
    sum of TPA(p, g) * IoU(p, g) / |g|. Crowds (things without instance) are no objects, and what is predicted
    on their pixels is not counted. Tubes of the prediction are told apart by class and instance, as in the
    official implementation. nan without objects.

    Source: Weber et al., "STEP: Segmenting and Tracking Every Pixel" (NeurIPS 2021 datasets track),
    section 4; crowds and classes as deeplab2's `segmentation_and_tracking_quality.py` has them.

    Args:
        classes: (C,) bool, the classes of the objects that count; None is all.
    """
    thing = np.append(clips.is_thing, False)
    crowd = thing[clips.target_class] & (clips.rows[:, 3] == 0)
    kept = ~crowd
    table = segment_table(
        clips.rows[kept], clips.clip[kept], clips.pred_class[kept], clips.target_class[kept], clips.is_thing
    )
    counted = thing if classes is None else thing & np.append(classes, False)
    objects = int(counted[table.target_class].sum())
    if not objects:
        return float("nan")
    both = thing[table.pred_class[table.pred]] & counted[table.target_class[table.target]]
    shared, area = table.overlap[both], table.target_area[table.target[both]]
    union = table.pred_area[table.pred[both]] + area - shared
    return float((shared / area * (shared / union)).sum() / objects)


def window_counts(clips: ClipRows, frames: int, num_classes: int, void_rule: VoidRule) -> PanopticCounts:
    """Match the tubes of every window of `frames` successive frames and count, as panoptic quality does.

    Windows start at each frame of a clip that has enough frames after it. One frame is panoptic quality.

    Source: Kim et al., "Video Panoptic Segmentation" (CVPR 2020), section 4.
    """
    total = PanopticCounts(np.zeros(num_classes), *(np.zeros(num_classes, np.int64) for _ in range(3)))
    for rows, window in _windows(clips, frames):
        table = segment_table(
            clips.rows[rows], window, clips.pred_class[rows], clips.target_class[rows], clips.is_thing
        )
        part = panoptic_counts(table, num_classes, void_rule)
        total = PanopticCounts(
            total.iou + part.iou,
            total.true_positives + part.true_positives,
            total.false_positives + part.false_positives,
            total.false_negatives + part.false_negatives,
        )
    return total


def _windows(clips: ClipRows, frames: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows, and the window that each belongs to; a row is in up to `frames` windows."""
    order = np.lexsort((clips.place, clips.clip))
    clip, place, length = (column[order] for column in (clips.clip, clips.place, clips.length))
    # Frames numbered through all clips: a window has the number of its first frame.
    new = np.append(True, (np.diff(clip) != 0) | (np.diff(place) != 0)) if len(order) else np.empty(0, bool)
    number = np.cumsum(new) - 1
    for first in range(0, int(number.max(initial=-1)) + 1, WINDOWS_AT_ONCE):
        low, high = np.searchsorted(number, (first, first + WINDOWS_AT_ONCE + frames - 1))
        near = np.arange(low, high)
        parts = []
        for offset in range(frames):
            start, window = place[near] - offset, number[near] - offset
            inside = (start >= 0) & (start + frames <= length[near])
            inside &= (window >= first) & (window < first + WINDOWS_AT_ONCE)
            parts.append((order[near[inside]], window[inside] - first))
        rows, window = (np.concatenate(column) for column in zip(*parts, strict=True))
        if len(rows):
            yield rows, window
