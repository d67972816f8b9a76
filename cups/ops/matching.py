"""Assignment of pseudo-classes (clusters) to ground-truth classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

UNASSIGNED = -1
"""Column of a cluster for which no class is left to choose."""


def hungarian_assignment(
    confusion: np.ndarray,
    groups: Sequence[tuple[Iterable[int], Iterable[int]]] | None = None,
    *,
    empty_pairs: bool = False,
) -> np.ndarray:
    """Match clusters to classes so that the total overlap is largest; left-over clusters take their best
    class.

    With more clusters than classes several clusters share a class; with fewer, some classes stay without one.
    A pair without a common pixel is no match: where a class does not occur, it would take any cluster, and
    which one only the order of the clusters decides. The total is largest all the same.
    Source: Kuhn (1955); the many-to-one rule is that of CUPS (Hahn et al., CVPR 2025).

    Args:
        confusion: (K, C) pixel counts of cluster and class, integers or floats >= 0.
        groups: pairs (clusters, classes), each matched on its own, for example things with things and stuff
            with stuff. None is one group of everything.
        empty_pairs: whether a pair without a common pixel is a match all the same, as CUPS has it. The total
            leaves open which cluster that is; here it is the smallest one that no other class takes.

    Returns:
        (K,) int64, the class (column) of each cluster; -1 where its group has no class or it is in no group.

    Raises:
        ValueError: for a confusion that is not a finite, non-negative matrix, for ids outside it, and for ids
            that are in two groups.
    """
    confusion = np.asarray(confusion)
    if confusion.ndim != 2:
        raise ValueError(f"confusion must be a (clusters, classes) matrix, not of shape {confusion.shape}")
    if confusion.size and not (np.isfinite(confusion).all() and confusion.min() >= 0):
        raise ValueError("confusion must hold finite counts, none negative")
    num_clusters, num_classes = confusion.shape
    if groups is None:
        groups = [(range(num_clusters), range(num_classes))]
    rows = [_indices(clusters, num_clusters, "clusters") for clusters, _ in groups]
    columns = [_indices(classes, num_classes, "classes") for _, classes in groups]
    for kind, parts in (("clusters", rows), ("classes", columns)):
        joined = np.concatenate(parts) if parts else np.empty(0, np.int64)
        if len(np.unique(joined)) < len(joined):
            raise ValueError(f"the groups share {kind}; each may be in one group only")
    assignment = np.full(num_clusters, UNASSIGNED, dtype=np.int64)
    for row, column in zip(rows, columns, strict=True):
        if len(row) and len(column):
            assignment[row] = column[_match(confusion[np.ix_(row, column)], empty_pairs)]
    return assignment


def one_to_one_assignment(confusion: np.ndarray) -> np.ndarray:
    """Match clusters to classes one to one so that the total overlap is largest (Kuhn, 1955).

    As in published figures of semantics alone (STEGO, CAUSE), a pair without a common pixel is a match too: a
    class that does not occur takes a cluster, and its IoU of 0 enters the mean.

    Args:
        confusion: (K, C) pixel counts of cluster and class, >= 0.

    Returns:
        (K,) int64 class of each cluster; -1 for the clusters left over when K > C.
    """
    row, column = linear_sum_assignment(confusion, maximize=True)
    assignment = np.full(len(confusion), UNASSIGNED, dtype=np.int64)
    assignment[row] = column
    return assignment


def many_to_one_assignment(confusion: np.ndarray) -> np.ndarray:
    """Give each cluster the class it overlaps most: (K, C) counts -> (K,) int64, -1 without any overlap."""
    confusion = np.asarray(confusion)
    return np.where(confusion.any(axis=1), confusion.argmax(axis=1), UNASSIGNED)


def _match(confusion: np.ndarray, empty_pairs: bool) -> np.ndarray:
    """Return the column of each row of a non-empty matrix."""
    chosen = confusion.argmax(axis=1)
    row, column = linear_sum_assignment(confusion, maximize=True)
    shared = confusion[row, column] > 0
    chosen[row[shared]] = column[shared]
    if empty_pairs:
        waiting = column[~shared]
        # Any other pair of these clusters and classes is empty too: the total would not be the largest else.
        free = np.setdiff1d(np.arange(len(confusion)), row[shared])
        by_size = free[np.argsort(confusion[free].sum(axis=1), kind="stable")]
        chosen[by_size[: len(waiting)]] = waiting
    return chosen


def _indices(ids: Iterable[int], limit: int, kind: str) -> np.ndarray:
    indices = np.array(sorted(ids), dtype=np.int64)
    if len(indices) and (indices[0] < 0 or indices[-1] >= limit):
        raise ValueError(f"{kind} of a group must be in 0..{limit - 1}, not {indices[0]}..{indices[-1]}")
    return indices
