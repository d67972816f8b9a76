"""Objects found by size: what counts as an object, and as found."""

from __future__ import annotations

import numpy as np
import torch

from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.found_objects import found_by_size

ROAD, CAR, PERSON, VOID = 0, 1, 2, 255


def _counts(pred: np.ndarray, target: np.ndarray) -> list[list[int]]:
    metric = PanopticQualitySemanticMatching((CAR, PERSON), (ROAD,), 3, void=VOID)
    for _ in range(2):  # two images: the objects of one are not those of the other
        metric.update(torch.from_numpy(pred)[None], torch.from_numpy(target)[None])
    scored = metric.scored_rows(["a", "b"], ["road", "car", "person"], metric.compute_all())
    return [counts.tolist() for counts in found_by_size(scored, (10, 100))]


def test_found_by_size__class_aside_by_pixels_of_the_truth() -> None:
    target, pred = np.zeros((2, 20, 20, 2), dtype=np.int64)
    target[0:2, 0:2] = CAR, 1  # 4 pixels, missed
    target[4:8, 0:4] = CAR, 2  # 16 pixels, found as a person
    target[10:20, 0:10] = CAR, 3  # 100 pixels, found
    target[10:20, 10:20] = PERSON, 4  # 100 pixels, half of it predicted: IoU 0.5 is not above 0.5
    pred[4:8, 0:4] = PERSON, 1
    pred[10:20, 0:9] = CAR, 2
    pred[10:20, 10:15] = PERSON, 3
    assert _counts(pred, target) == [[2, 2, 4], [0, 2, 2]]


def test_found_by_size__crowds_are_no_objects_and_void_is_nobodys_pixel() -> None:
    target, pred = np.zeros((2, 20, 20, 2), dtype=np.int64)
    target[0:10] = VOID, 0
    target[10:15, 0:10] = CAR, 0
    target[15:20, 0:10] = CAR, 1
    pred[0:20, 0:10] = CAR, 1  # IoU with the car: 50 of 50 + 50, beside the void above
    assert _counts(pred, target) == [[0, 2, 0], [0, 0, 0]]
    pred[10:15] = ROAD, 0
    assert _counts(pred, target) == [[0, 2, 0], [0, 2, 0]]
