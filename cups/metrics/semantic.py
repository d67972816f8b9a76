"""Semantic metrics of pseudo-classes: a confusion matrix, an assignment, then mIoU and accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cups.metrics.protocol import VoidRule, check_void_rule
from cups.taxonomy import VOID


@dataclass(frozen=True, eq=False)
class SemanticQuality:
    """Semantic scores in 0-1.

    Attributes:
        miou: mean IoU over the classes that occur in ground truth or prediction; nan when none does.
        accuracy: share of right pixels; nan without pixels.
        iou_per_class: (C,) float64, 0 for a class that does not occur.
    """

    miou: float
    accuracy: float
    iou_per_class: np.ndarray


class ConfusionMatrix:
    """Streaming pixel counts of clusters against classes.

    Attributes:
        counts: (K + 1, C) int64; row K counts pixels predicted void. Ground-truth void is not counted at all.
    """

    def __init__(self, num_clusters: int, num_classes: int, *, void: int = VOID) -> None:
        """Start from zero. `void` is the ignore value of both maps and must lie above all ids."""
        if not (0 < num_clusters <= void and 0 < num_classes <= void):
            raise ValueError(
                f"{num_clusters} clusters and {num_classes} classes must be in 1..{void} (the void id); "
                "use uint16 maps and void=65535 for more"
            )
        self.counts = np.zeros((num_clusters + 1, num_classes), dtype=np.int64)
        self._void = void

    def update(self, pred: np.ndarray, target: np.ndarray) -> None:
        """Add a pair of integer maps of equal shape: cluster ids 0..K-1 or void, class ids 0..C-1 or void.

        Raises:
            ValueError: for different shapes, a dtype that is not integer, or an id out of range.
        """
        pred, target = np.asarray(pred), np.asarray(target)
        if pred.shape != target.shape:
            raise ValueError(f"pred has shape {pred.shape} but target has {target.shape}; they must be equal")
        rows, num_classes = self.counts.shape
        row = self._index(pred, rows - 1, "pred")
        column = self._index(target, num_classes, "target")
        joint = np.bincount((row * (num_classes + 1) + column).ravel(), minlength=rows * (num_classes + 1))
        self.counts += joint.reshape(rows, num_classes + 1)[:, :num_classes]

    def _index(self, ids: np.ndarray, size: int, name: str) -> np.ndarray:
        """Return ids as int64 with void replaced by `size`."""
        if not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(f"{name} must hold integer ids, not {ids.dtype}")
        index = ids.astype(np.int64)
        index[index == self._void] = -1
        if index.size and (index.max() >= size or ids.min() < 0):
            wrong = ids[(index >= size) | (ids < 0)].flat[0]
            raise ValueError(f"{name} id {wrong} is outside 0..{size - 1} and is not void ({self._void})")
        index[index < 0] = size
        return index


def mapped_confusion(counts: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Return (C + 1, C) pixel counts of predicted class against class, row C for void.

    Args:
        counts: (K + 1, C) as in `ConfusionMatrix`.
        assignment: (K,) class of each cluster, -1 for none (its pixels count as predicted void).
    """
    rows, num_classes = counts.shape
    assignment = np.asarray(assignment)
    if assignment.shape != (rows - 1,):
        raise ValueError(
            f"assignment must be of shape ({rows - 1},) for counts {counts.shape}, not {assignment.shape}"
        )
    if len(assignment) and assignment.max() >= num_classes:
        raise ValueError(f"assignment to class {assignment.max()} but there are {num_classes} classes")
    mapped = np.zeros((num_classes + 1, num_classes), dtype=np.int64)
    np.add.at(mapped, np.append(np.where(assignment < 0, num_classes, assignment), num_classes), counts)
    return mapped


def semantic_quality(
    counts: np.ndarray,
    assignment: np.ndarray,
    *,
    void_rule: VoidRule = "standard",
    classes_mask: np.ndarray | None = None,
) -> SemanticQuality:
    """Return mIoU and accuracy of clusters mapped to classes.

    Pixels predicted void are errors (false negatives of their class) under `standard`; `upstream` leaves them
    out.

    Args:
        counts: (K + 1, C) as in `ConfusionMatrix`.
        assignment: (K,) class of each cluster, -1 for none.
        void_rule: see `cups.metrics.protocol.VOID_RULES`.
        classes_mask: (C,) bool, the classes that the mean is over.
    """
    check_void_rule(void_rule)
    mapped = mapped_confusion(counts, assignment)
    confusion = mapped[:-1]
    hit, predicted = np.diagonal(confusion), confusion.sum(axis=1)
    actual = (mapped if void_rule == "standard" else confusion).sum(axis=0)
    union = predicted + actual - hit
    iou = hit / np.maximum(union, 1)
    averaged = union > 0 if classes_mask is None else (union > 0) & classes_mask
    return SemanticQuality(
        miou=float(iou[averaged].mean()) if averaged.any() else float("nan"),
        accuracy=float(hit.sum() / actual.sum()) if actual.sum() else float("nan"),
        iou_per_class=iou,
    )
