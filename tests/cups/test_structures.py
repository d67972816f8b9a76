"""Boxes of masks, samples, loaded images, pseudo-classes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import masks_to_boxes

from cups.ops.panoptic_map import PanopticMap
from cups.structures import LoadedImage, PseudoClasses, Sample, ThingStuffSplit, boxes_from_masks


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


def test_pseudo_classes__stuff_first_then_things() -> None:
    pseudo = PseudoClasses(things=2, stuffs=3)
    assert (pseudo.total, pseudo.void) == (5, 255)
    assert pseudo.is_thing.tolist() == [False, False, False, True, True]
    assert [*pseudo.stuff_ids, *pseudo.thing_ids] == [0, 1, 2, 3, 4] and list(pseudo.thing_ids) == [3, 4]
    assert pseudo.names == ("stuff 0", "stuff 1", "stuff 2", "thing 0", "thing 1")
    with pytest.raises(FrozenInstanceError):
        pseudo.things = 3  # type: ignore[misc]


def test_pseudo_classes__void_is_never_a_class() -> None:
    assert [PseudoClasses(things, 250).void for things in (5, 6)] == [255, 65535]


def test_split__counts_become_a_network() -> None:
    assert ThingStuffSplit((7, 2), (0, 1, 3)).pseudo_classes == PseudoClasses(things=2, stuffs=3)


def test_loaded_image__ground_truth_with_another_void() -> None:
    target = PanopticMap.from_pairs(torch.tensor([[[255, 0], [3, 7]]]))
    loaded = LoadedImage(torch.zeros(3, 1, 2), "a", target)
    assert loaded.ground_truth() is target
    assert loaded.ground_truth(65535).pairs.tolist() == [[[65535, 0], [3, 7]]]
    with pytest.raises(ValueError, match="b: this data set has no ground truth"):
        LoadedImage(torch.zeros(3, 1, 2), "b").ground_truth()


def test_loaded_image__to_moves_the_image() -> None:
    loaded = LoadedImage(torch.zeros(3, 1, 2), "a", PanopticMap.from_pairs(np.zeros((1, 2, 2), int)), index=4)
    moved = loaded.to("meta")
    assert moved.image.is_meta and moved.target is loaded.target
    assert (moved.name, moved.index) == ("a", 4)
    assert LoadedImage(torch.zeros(3, 1, 2), "a").to("meta").target is None
