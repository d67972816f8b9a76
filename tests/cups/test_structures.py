"""Boxes of masks and samples."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import masks_to_boxes

from cups.structures import Sample, boxes_from_masks


def test_boxes_from_masks__a_single_pixel_has_an_area() -> None:
    """Upstream's boxes lack the + 1: a one-pixel object has zero area and makes every RPN anchor positive."""
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0, 1, 2] = True
    assert boxes_from_masks(masks).tolist() == [[2, 1, 3, 2], [0, 0, 0, 0]]


def test_boxes_from_masks__a_mask_over_everything() -> None:
    assert boxes_from_masks(torch.ones(1, 4, 6, dtype=torch.bool)).tolist() == [[0, 0, 6, 4]]
    assert boxes_from_masks(torch.zeros(0, 4, 6, dtype=torch.bool)).shape == (0, 4)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 4))
def test_boxes_from_masks__equal_torchvision_plus_one(seed: int, count: int) -> None:
    masks = torch.rand(count, 7, 9, generator=torch.Generator().manual_seed(seed)) > 0.9
    masks[:, 3, 4] = True
    expected = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
    assert torch.equal(boxes_from_masks(masks), expected)


def test_sample__keep_selects_masks_and_classes() -> None:
    sample = Sample(
        torch.zeros(3, 2, 2), torch.zeros(2, 2), torch.ones(3, 2, 2, dtype=torch.bool), torch.arange(3)
    )
    assert sample.keep(torch.tensor([True, False, True])).classes.tolist() == [0, 2]
    assert sample.size == (2, 2)
