"""Anchor matching."""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, pairwise_iou

from cups.model.modeling.rpn import TouchingMatcher

ANCHORS = Boxes(
    torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16], [40, 40, 48, 48]])
)


def match(boxes: list[list[float]]) -> list[int]:
    matcher = TouchingMatcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)
    _, labels = matcher(pairwise_iou(Boxes(torch.tensor(boxes)), ANCHORS))
    return labels.tolist()


def test_matcher__box_without_area_makes_no_anchor_positive() -> None:
    """Upstream: a one-pixel-wide object had no area, so its best IoU was 0 and all anchors positive."""
    assert match([[3, 0, 3, 8]]) == [0, 0, 0, 0, 0]


def test_matcher__box_that_touches_no_anchor_makes_none_positive() -> None:
    assert match([[100, 100, 120, 120]]) == [0, 0, 0, 0, 0]


def test_matcher__bad_box_does_not_disturb_a_good_one() -> None:
    assert match([[3, 0, 3, 8], [0, 0, 8, 7]]) == [1, 0, 0, 0, 0]


def test_matcher__low_quality_match_keeps_all_ties() -> None:
    # A 4 x 4 box on the corner of four anchors overlaps each by 4 of 76 pixels.
    assert match([[6, 6, 10, 10]]) == [1, 1, 1, 1, 0]


def test_matcher__no_boxes_is_all_background() -> None:
    matcher = TouchingMatcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)
    _, labels = matcher(torch.zeros((0, 5)))
    assert labels.tolist() == [0] * 5
