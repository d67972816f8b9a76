"""Between samples, detectron2's dicts and panoptic tensors."""

from __future__ import annotations

import torch

from cups.model import panoptic_from_output, to_detectron2
from cups.structures import PseudoClasses, Sample


def _sample(masks: torch.Tensor) -> Sample:
    size = tuple(masks.shape[1:])
    return Sample(
        torch.zeros((3, *size)), torch.zeros(size, dtype=torch.int64), masks, torch.arange(len(masks))
    )


def test_to_detectron2__boxes_end_after_the_last_pixel() -> None:
    # . # # .      columns 1-2, rows 0-1: the box ends at (3, 2); upstream's (2, 1) lost a row and a column
    # . # # .
    # . . . .
    masks = torch.zeros((1, 3, 4), dtype=torch.bool)
    masks[0, :2, 1:3] = True
    instances = to_detectron2(_sample(masks))["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[1, 0, 3, 2]]
    assert torch.equal(instances.gt_masks.tensor, masks)


def test_to_detectron2__thin_objects_are_dropped_with_their_class() -> None:
    masks = torch.zeros((3, 8, 8), dtype=torch.bool)
    masks[0, 2, :] = True  # one pixel high
    masks[1, 4:6, 4:6] = True
    instances = to_detectron2(_sample(masks))["instances"]  # the third is empty
    assert instances.gt_classes.tolist() == [1]
    assert len(instances.gt_boxes) == len(instances.gt_masks) == 1


def test_to_detectron2__without_objects_has_empty_fields() -> None:
    item = to_detectron2(_sample(torch.zeros((0, 4, 6), dtype=torch.bool)))
    assert len(item["instances"]) == 0
    assert item["instances"].gt_boxes.tensor.shape == (0, 4)
    assert (item["height"], item["width"]) == (4, 6)


def test_panoptic_from_output__numbers_stuff_first_then_things() -> None:
    ids = torch.tensor([[0, 1, 1], [2, 3, 4]], dtype=torch.int32)
    segments = [
        {"id": 1, "isthing": True, "category_id": 2},
        {"id": 2, "isthing": True, "category_id": 0},
        {"id": 3, "isthing": False, "category_id": 1},
        {"id": 4, "isthing": False, "category_id": 5},
    ]
    panoptic = panoptic_from_output({"panoptic_seg": (ids, segments)}, PseudoClasses(things=3, stuffs=5))
    assert panoptic.dtype == torch.int64
    assert panoptic.tolist() == [[[255, 0], [7, 1], [7, 1]], [[5, 2], [0, 0], [4, 0]]]


def test_panoptic_from_output__nothing_found_is_void() -> None:
    panoptic = panoptic_from_output(
        {"panoptic_seg": (torch.zeros((2, 2), dtype=torch.int32), [])}, PseudoClasses(2, 3)
    )
    assert panoptic[..., 0].eq(255).all() and panoptic[..., 1].eq(0).all()


def test_panoptic_from_output__void_is_no_category_of_three_hundred() -> None:
    """At S + T > 255 the category 255 is stuff or a thing, and was read as void by the metric."""
    ids = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    segments = [
        {"id": 1, "isthing": False, "category_id": 256},
        {"id": 2, "isthing": True, "category_id": 9},
    ]
    panoptic = panoptic_from_output({"panoptic_seg": (ids, segments)}, PseudoClasses(things=10, stuffs=290))
    assert panoptic.tolist() == [[[65535, 0], [255, 0], [299, 1]]]
