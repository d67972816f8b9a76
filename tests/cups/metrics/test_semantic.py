"""Confusion matrix and mIoU: by hand, against torchmetrics, both void rules, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from cups.metrics import ConfusionMatrix, mapped_confusion, semantic_quality


def counted(pred: np.ndarray, target: np.ndarray, clusters: int, classes: int) -> np.ndarray:
    matrix = ConfusionMatrix(clusters, classes)
    matrix.update(pred, target)
    return matrix.counts


def test_confusion_matrix__by_hand() -> None:
    pred = np.array([[0, 0, 1], [1, 255, 255]], np.uint8)
    target = np.array([[1, 0, 1], [255, 0, 255]], np.uint8)
    assert counted(pred, target, 2, 2).tolist() == [[1, 1], [0, 1], [1, 0]]


def test_confusion_matrix__streams_and_ids_above_255() -> None:
    rng = np.random.default_rng(0)
    pred = rng.integers(0, 300, (4, 50, 60)).astype(np.uint16)
    pred[:, :5] = 65535
    target = rng.integers(0, 7, (4, 50, 60)).astype(np.uint8).astype(np.uint16)
    whole, parts = ConfusionMatrix(300, 7, void=65535), ConfusionMatrix(300, 7, void=65535)
    whole.update(pred, target)
    for one_pred, one_target in zip(pred, target, strict=True):
        parts.update(one_pred, one_target)
    assert (whole.counts == parts.counts).all()
    assert whole.counts[255].sum() > 0 and whole.counts[300].sum() == 4 * 5 * 60


def test_semantic_quality__void_rules_by_hand() -> None:
    # Class 0: 10 pixels, 4 right and 6 predicted void. Class 1: 10 right.
    counts = np.array([[4, 0], [0, 10], [6, 0]])
    standard = semantic_quality(counts, np.array([0, 1]))
    upstream = semantic_quality(counts, np.array([0, 1]), void_rule="upstream")
    assert standard.iou_per_class.tolist() == [0.4, 1.0]
    assert (standard.miou, standard.accuracy) == pytest.approx((0.7, 0.7))
    assert (upstream.miou, upstream.accuracy) == (1.0, 1.0)


def test_semantic_quality__many_clusters_to_one_class() -> None:
    counts = np.array([[3, 1], [5, 0], [0, 8], [0, 0]])
    quality = semantic_quality(counts, np.array([0, 0, 1]))
    assert quality.iou_per_class == pytest.approx([8 / 9, 8 / 9])
    assert mapped_confusion(counts, np.array([0, 0, 1])).tolist() == [[8, 1], [0, 8], [0, 0]]


def test_semantic_quality__unassigned_cluster_is_void() -> None:
    counts = np.array([[3, 0], [2, 0], [0, 0]])
    assert semantic_quality(counts, np.array([0, -1])).accuracy == pytest.approx(0.6)
    assert semantic_quality(counts, np.array([0, -1]), void_rule="upstream").accuracy == 1.0


def test_semantic_quality__absent_class_is_not_averaged_and_mask_restricts() -> None:
    counts = np.array([[5, 0, 0], [5, 10, 0], [0, 0, 0], [0, 0, 0]])
    assignment = np.array([0, 1, 2])
    quality = semantic_quality(counts, assignment)
    assert quality.miou == pytest.approx((0.5 + 10 / 15) / 2)
    assert semantic_quality(counts, assignment, classes_mask=np.array([True, False, True])).miou == 0.5
    empty = semantic_quality(np.zeros((4, 3), np.int64), assignment)
    assert np.isnan(empty.miou) and np.isnan(empty.accuracy)


def test_semantic_quality__equals_torchmetrics() -> None:
    rng = np.random.default_rng(1)
    target = rng.integers(0, 6, (3, 40, 50))
    pred = np.where(rng.random(target.shape) < 0.4, rng.integers(0, 6, target.shape), target)
    target[rng.random(target.shape) < 0.1] = 255
    quality = semantic_quality(counted(pred, target, 6, 6), np.arange(6))
    expected = multiclass_jaccard_index(
        torch.from_numpy(pred), torch.from_numpy(target), num_classes=6, ignore_index=255
    )
    assert quality.miou == pytest.approx(float(expected), abs=1e-6)
    valid = target != 255
    assert quality.accuracy == pytest.approx((pred == target)[valid].mean())


@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8), "integer ids"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), "must be equal"),
        (np.full((2, 2), 3, np.uint8), np.zeros((2, 2), np.uint8), "pred id 3 is outside 0..2"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 9, np.uint8), "target id 9"),
        (np.full((2, 2), -1), np.zeros((2, 2), np.uint8), "pred id -1"),
    ],
)
def test_confusion_matrix__bad_input(pred: np.ndarray, target: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(3, 4).update(pred, target)


def test_confusion_matrix__more_clusters_than_void() -> None:
    with pytest.raises(ValueError, match="void=65535"):
        ConfusionMatrix(300, 19)


def test_semantic_quality__bad_input() -> None:
    counts = np.zeros((3, 2), np.int64)
    with pytest.raises(ValueError, match="void rule"):
        semantic_quality(counts, np.array([0, 1]), void_rule="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        semantic_quality(counts, np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="class 2"):
        semantic_quality(counts, np.array([0, 2]))
