"""Matchings and protocols on confusions small enough to score by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cups.errors import UserError
from cups.metrics.protocol import Protocol
from cups.ops.matching import many_to_one_assignment, one_to_one_assignment
from cups.taxonomy import class_set
from pseudo_labels.scoring.semantic import (
    assignments,
    named_classes,
    semantic_report,
    semantic_results,
)

# Clusters 0 and 1 are both road (0), cluster 2 is half sidewalk (1), half building (2), cluster 3 is empty.
#            road sidewalk building
ROWS = ((60, 0, 0), (30, 0, 0), (0, 5, 5), (0, 0, 0))
SEMANTIC_7 = Protocol("test", num_classes=7, task="semantic")


def counts(num_classes: int = 7) -> np.ndarray:
    matrix = np.zeros((5, num_classes), np.int64)
    matrix[:4, :3] = ROWS
    return matrix


def test_one_to_one__left_over_clusters_have_no_class() -> None:
    assert one_to_one_assignment(np.array([[60, 0], [30, 0], [0, 5]])).tolist() == [0, -1, 1]


def test_one_to_one__fewer_clusters_than_classes() -> None:
    assert one_to_one_assignment(np.array([[3, 9, 0]])).tolist() == [1]


def test_many_to_one__clusters_share_a_class_and_empty_ones_have_none() -> None:
    assert many_to_one_assignment(np.array(ROWS)).tolist() == [0, 0, 1, -1]


def test_semantic_results__hand_made_values() -> None:
    results = {
        (result.name, result.void_rule): result for result in semantic_results("x", counts(), SEMANTIC_7)
    }
    # Many to one: road 90/90, sidewalk 5/10, building 0/5.
    many = results["x, many-to-one", "standard"]
    assert many.metrics["miou"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert many.metrics["accuracy"] == pytest.approx(95 / 100)
    assert many.assignment == [0, 0, 1, 255]
    assert np.isnan(many.per_class["sky"]["iou"])  # occurs nowhere
    # One to one with 4 clusters and 7 classes: cluster 1 may take a class without pixels, so road is 60/90.
    one = results["x, one-to-one", "standard"]
    assert one.per_class["flat"]["iou"] == pytest.approx(60 / 90)
    assert "one-to-one Hungarian" in one.protocol and "many-to-one" in many.protocol


def test_semantic_results__one_to_one_leaves_clusters_void() -> None:
    matrix = np.zeros((10, 7), np.int64)
    matrix[:9, 0] = (60, 30, 0, 0, 0, 0, 0, 0, 10)
    one, joint = (
        next(r for r in semantic_results("x", matrix, SEMANTIC_7) if r.name == f"x, {name}")
        for name in ("one-to-one", "joint")
    )
    assert one.per_class["flat"]["iou"] == pytest.approx(0.6)
    assert joint.assignment.count(255) == 0 and one.assignment.count(255) == 2


def test_semantic_results__matching_fitted_elsewhere() -> None:
    elsewhere = counts()
    elsewhere[0, :2] = 0, 60  # there, cluster 0 is sidewalk
    fitted = Protocol("test", num_classes=7, task="semantic", fitted_on="train (9 images)")
    many = next(
        result
        for result in semantic_results("x", counts(), fitted, fitted=elsewhere)
        if result.name == "x, many-to-one"
    )
    assert many.assignment[:2] == [1, 0] and many.metrics["accuracy"] == pytest.approx((30 + 5) / 100)
    assert "fitted on train (9 images)" in many.protocol


def test_semantic_results__names_are_fitted_on_nothing() -> None:
    fitted = Protocol("test", num_classes=19, task="semantic", fitted_on="train")
    named = semantic_results("x", np.eye(20, 19, dtype=np.int64), fitted, named=True)[0]
    assert named.metrics == {"miou": 1.0, "accuracy": 1.0} and "fitted" not in named.protocol


def test_assignments__no_left_overs_without_more_clusters_than_classes() -> None:
    assert [name for name, _ in assignments(counts(), class_set(7))] == ["one-to-one", "many-to-one"]
    assert "joint" in dict(assignments(np.ones((9, 7)), class_set(7)))


@pytest.mark.parametrize(
    ("labels", "classes", "label", "expected"),
    [
        (19, 27, 13, 19),  # car: trainId 13, Cityscapes id 26
        (19, 7, 13, 6),  # vehicle
        (27, 19, 2, -1),  # parking is none of the 19
        (27, 27, 4, 4),
    ],
)
def test_named_classes(labels: int, classes: int, label: int, expected: int) -> None:
    assert named_classes(labels, class_set(classes))[label] == expected


def test_named_classes__clusters_have_no_names() -> None:
    with pytest.raises(UserError, match="`labels`"):
        named_classes(50, class_set(19))


def test_semantic_report__has_a_second_void_rule_only_where_it_differs() -> None:
    assert "upstream" not in semantic_report(semantic_results("x", counts(), SEMANTIC_7))
    void = counts()
    void[4, 0] = 10
    assert "upstream" in semantic_report(semantic_results("x", void, SEMANTIC_7))
