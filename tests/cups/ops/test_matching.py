"""Hungarian assignment against brute force, and its many-to-one and separated cases by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.ops.matching import UNASSIGNED, hungarian_assignment


def test_hungarian_assignment__total_overlap_beats_greedy() -> None:
    # Greedy takes 9 for cluster 0 and is left with 0: 9. The best total is 8 + 7.
    assert hungarian_assignment(np.array([[9, 8], [7, 0]])).tolist() == [1, 0]


def test_hungarian_assignment__left_over_cluster_takes_its_best_class() -> None:
    confusion = np.array([[10, 0], [0, 9], [3, 5], [0, 0]])
    assert hungarian_assignment(confusion).tolist() == [0, 1, 1, 0]  # an empty row takes the first class


def test_hungarian_assignment__fewer_clusters_than_classes() -> None:
    assert hungarian_assignment(np.array([[1, 0, 7, 2]])).tolist() == [2]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_hungarian_assignment__class_that_does_not_occur_takes_no_cluster(order: tuple[int, ...]) -> None:
    """Class 1 is absent. It once took a cluster, chosen by the order alone: a third of trucks was lost."""
    confusion = np.array([[9, 0], [5, 0], [4, 0]])[list(order)]
    assert hungarian_assignment(confusion).tolist() == [0, 0, 0]
    taken = hungarian_assignment(confusion, empty_pairs=True)
    assert confusion[taken == 1].tolist() == [[4, 0]]  # the smallest, in any order


def test_hungarian_assignment__groups_forbid_crossing() -> None:
    # Cluster 0 looks like class 2, but it is a thing cluster and class 2 is stuff.
    confusion = np.array([[1, 0, 50], [2, 3, 0], [0, 40, 5]])
    assert hungarian_assignment(confusion).tolist() == [2, 0, 1]
    assert hungarian_assignment(confusion, [([0, 1], [0, 1]), ([2], [2])]).tolist() == [0, 1, 2]


def test_hungarian_assignment__group_without_classes() -> None:
    assert hungarian_assignment(np.ones((2, 1)), [([0], [0]), ([1], [])]).tolist() == [0, UNASSIGNED]


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
def test_hungarian_assignment__equals_brute_force(clusters: int, classes: int, seed: int) -> None:
    confusion = np.random.default_rng(seed).integers(0, 1000, (clusters, classes))
    assignment = hungarian_assignment(confusion, empty_pairs=True)
    small = min(clusters, classes)
    best = max(
        sum(confusion[row, column] for row, column in zip(rows, columns, strict=True))
        for rows in itertools.combinations(range(clusters), small)
        for columns in itertools.permutations(range(classes), small)
    )
    total = confusion[np.arange(clusters), assignment]
    assert total.sum() >= best
    assert len(set(assignment.tolist())) == small
    assert confusion[np.arange(clusters), hungarian_assignment(confusion)].sum() >= total.sum()
    order = np.random.default_rng(seed).permutation(clusters)
    shuffled = hungarian_assignment(confusion[order], empty_pairs=True)
    assert confusion[order][np.arange(clusters), shuffled].sum() == total.sum()


@pytest.mark.parametrize(
    ("confusion", "groups", "message"),
    [
        (np.ones(3), None, "matrix"),
        (np.array([[-1.0]]), None, "none negative"),
        (np.array([[np.nan]]), None, "finite"),
        (np.ones((2, 2)), [([0, 2], [0])], "clusters of a group must be in 0..1"),
        (np.ones((2, 2)), [([0], [0]), ([1], [0])], "share classes"),
        (np.ones((2, 2)), [([0], [0]), ([0], [1])], "share clusters"),
    ],
)
def test_hungarian_assignment__bad_input(confusion: np.ndarray, groups: list | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hungarian_assignment(confusion, groups)
