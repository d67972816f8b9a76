"""What the regions of a batch learn: the same, to the bit, as detectron2 finds image by image."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.structures import BitMasks, Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from cups.model.modeling.roi_heads.labelling import (
    Truth,
    assign,
    clip_regions,
    objects_of,
    sampled_regions,
)
from cups.model.modeling.sampling import pairwise_ious

SIZE = (48, 64)
OBJECTS = (3, 0, 5)
REGIONS = (40, 25, 33)
BACKGROUND = 7


def random_boxes(count: int, generator: torch.Generator) -> Tensor:
    """Return boxes (N, 4) of which many overlap."""
    corners = torch.rand((count, 2, 2), generator=generator) * torch.tensor([SIZE[1], SIZE[0]])
    return torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1)


def batch() -> tuple[list[Instances], list[Instances]]:
    """Return proposals and targets of three images, one of them without objects."""
    generator = torch.Generator().manual_seed(0)
    proposals, targets = [], []
    for regions, objects in zip(REGIONS, OBJECTS, strict=True):
        target = Instances(SIZE, gt_boxes=Boxes(random_boxes(objects, generator)))
        target.gt_classes = torch.randint(0, BACKGROUND, (objects,), generator=generator)
        target.gt_masks = BitMasks(torch.rand((objects, *SIZE), generator=generator) < 0.5)
        shaken = target.gt_boxes.tensor.repeat(4, 1) + torch.randn((4 * objects, 4), generator=generator)
        boxes = torch.cat((random_boxes(regions - len(shaken), generator), shaken))
        logits = torch.randn(regions, generator=generator)
        proposals.append(Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=logits))
        targets.append(target)
    return proposals, targets


def test_pairwise_ious__equal_detectron2() -> None:
    proposals, targets = batch()
    for item, target in zip(proposals, targets, strict=True):
        boxes = item.proposal_boxes
        (found,) = pairwise_ious(target.gt_boxes.tensor[None], boxes.tensor[None])
        assert torch.equal(found, pairwise_iou(target.gt_boxes, boxes))


def test_assign__labels_between_two_thresholds_are_left_out() -> None:
    target = Instances(SIZE, gt_boxes=Boxes(torch.tensor([[0.0, 0, 10, 10]])), gt_classes=torch.tensor([3]))
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 1], [20, 20, 30, 30]]])
    matcher = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=False)
    best, classes = assign(boxes, Truth.of([target]), matcher, BACKGROUND)
    assert best.tolist() == [[0, 0, 0, 0]]
    assert classes.tolist() == [[3, -1, BACKGROUND, BACKGROUND]]


def heads(build_tiny: Callable[..., nn.Module]) -> Any:
    """Return region heads that draw some of the regions, objects among them."""
    made: Any = build_tiny().roi_heads
    made.num_classes, made.batch_size_per_image = BACKGROUND, 16
    return made


def fields(items: list[Instances], targets: list[Instances]) -> list[list[Any]]:
    """Return what is learnt from regions; boxes that nothing matched count as none."""
    found = []
    for item, target in zip(items, targets, strict=True):
        near = item.gt_boxes.tensor if len(target) else None
        found.append([item.proposal_boxes.tensor, item.gt_classes, near])
    return found


def assert_same(ours: list[list[Any]], theirs: list[list[Any]]) -> None:
    for found, expected in zip(ours, theirs, strict=True):
        for a, b in zip(found, expected, strict=True):
            assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("append", [True, False])
def test_first_stage__equals_detectron2(build_tiny: Callable[..., nn.Module], append: bool) -> None:
    made = heads(build_tiny)
    made.proposal_append_gt = append
    proposals, targets = batch()
    torch.manual_seed(0)
    ours = made._label_and_sample(proposals, targets, Truth.of(targets))
    torch.manual_seed(0)
    with EventStorage():
        theirs = CascadeROIHeads.label_and_sample_proposals(made, deepcopy(proposals), targets)
    assert_same(fields(ours, targets), fields(theirs, targets))
    assert any((item.gt_classes < BACKGROUND).any() for item in ours)
    boxes = torch.tensor([[5.0, 5, 30, 30]])
    for found, expected, target in zip(ours, theirs, targets, strict=True):
        for number in range(len(found) if len(target) else 0):
            crops = [
                item.gt_masks[torch.tensor([number])].crop_and_resize(boxes, 7) for item in (found, expected)
            ]
            assert torch.equal(*crops)


def test_later_stage__equals_detectron2(build_tiny: Callable[..., nn.Module]) -> None:
    made = heads(build_tiny).train()
    proposals, targets = batch()
    boxes = [item.proposal_boxes.tensor for item in proposals]
    boxes[0][3, 2:] = boxes[0][3, :2]  # empty
    boxes[2] = boxes[2] + 9  # some leave the image, of which some are empty then
    boxes[2][4] = torch.tensor([70.0, 3, 90, 9])
    ours = made._next_regions(boxes, [SIZE] * 3, 1, Truth.of(targets))
    with EventStorage():
        kept = CascadeROIHeads._create_proposals_from_boxes(made, boxes, [SIZE] * 3)
        theirs = CascadeROIHeads._match_and_label_boxes(made, kept, 1, targets)
    assert_same(fields(ours, targets), fields(theirs, targets))
    assert [len(item) for item in ours][:2] == [REGIONS[0] - 1, REGIONS[1]]


def test_clip_regions__boxes_that_are_no_numbers_end_training() -> None:
    boxes = [torch.tensor([[0.0, 0, 5, 5]]), torch.tensor([[0.0, torch.nan, 5, 5]])]
    with pytest.raises(FloatingPointError, match="training has diverged"):
        clip_regions(boxes, [SIZE, SIZE])


@pytest.mark.parametrize("together", [True, False])
def test_sampled_regions__counts_are_those_of_the_rule(together: bool) -> None:
    torch.manual_seed(0)
    classes = torch.full((2, 30), BACKGROUND)
    classes[0, :3], classes[1, 5:25], classes[1, 25:] = 2, 4, -1
    classes[0, 12:] = 2  # padding
    rows = sampled_regions(classes, (12, 30), 10, 0.5, BACKGROUND, together=together)
    drawn = [classes[number, row].tolist() for number, row in enumerate(rows)]
    assert sorted(drawn[0]) == [2] * 3 + [BACKGROUND] * 7
    assert sorted(drawn[1]) == [4] * 5 + [BACKGROUND] * 5
    assert max(rows[0]) < 12
    assert all(len(set(row.tolist())) == 10 for row in rows)


def test_objects_of__background_and_left_out_regions_are_gone() -> None:
    items = []
    for classes in ([0, BACKGROUND, 2], [BACKGROUND, -1], [1]):
        boxes = Boxes(torch.arange(4.0 * len(classes)).view(-1, 4))
        items.append(Instances(SIZE, proposal_boxes=boxes, gt_classes=torch.tensor(classes)))
    found = objects_of(items, BACKGROUND)
    assert [item.gt_classes.tolist() for item in found] == [[0, 2], [], [1]]
    assert found[0].proposal_boxes.tensor[1].tolist() == [8, 9, 10, 11]
