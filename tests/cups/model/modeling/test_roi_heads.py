"""DropLoss, pooling and the shared masks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from cups.model import to_detectron2
from cups.model.modeling.roi_heads import CustomFastRCNNOutputLayers, drop_weights
from cups.model.modeling.roi_heads.cascade_rcnn import SharedMasks
from cups.model.modeling.roi_heads.labelling import Truth
from cups.model.modeling.roi_heads.mask_head import mask_loss
from cups.model.modeling.roi_heads.pooler import SparseROIPooler
from cups.structures import Sample
from studies.benchmarks.host_syncs import counted_syncs

A, B, FAR = [0.0, 0, 10, 10], [20.0, 0, 30, 10], [60.0, 60, 70, 70]


def truth_of(*images: list[list[float]]) -> Truth:
    """Return the objects of images by their boxes, all of class 0."""
    boxes = [torch.tensor(rows).reshape(-1, 4) for rows in images]
    classes = [torch.zeros(len(rows), dtype=torch.long) for rows in boxes]
    return Truth.of(
        [Instances((80, 80), gt_boxes=Boxes(b), gt_classes=c) for b, c in zip(boxes, classes, strict=True)]
    )


def test_drop_weights__every_box_of_the_image_counts() -> None:
    """Upstream compared with the first few sampled proposals only: objects not among them got weight 0."""
    truth = truth_of([FAR] * 30 + [A, B])
    weights = drop_weights([torch.tensor([A, B, [40.0, 40, 50, 50]])], truth, 0.4)
    assert weights.tolist() == [1, 1, 0]


def test_drop_weights__at_the_threshold_is_dropped() -> None:
    # The left half of A: IoU 0.5.
    boxes = [torch.tensor([[0.0, 0, 5, 10]])]
    truth = truth_of([A])
    assert drop_weights(boxes, truth, 0.5).tolist() == [0]
    assert drop_weights(boxes, truth, 0.49).tolist() == [1]


def test_drop_weights__image_without_boxes_does_not_touch_the_others() -> None:
    """Upstream: one image without boxes switched DropLoss off for the whole batch at the first stage."""
    boxes = [torch.tensor([A, FAR]), torch.tensor([A]), torch.zeros((0, 4))]
    truth = truth_of([A], [], [A])
    assert drop_weights(boxes, truth, 0.4).tolist() == [1, 0, 0]


def test_drop_weights__boxes_that_are_not_finite_are_dropped() -> None:
    boxes = [torch.tensor([[float("nan")] * 4, A])]
    assert drop_weights(boxes, truth_of([A]), 0.4).tolist() == [0, 1]


def _layers() -> CustomFastRCNNOutputLayers:
    return CustomFastRCNNOutputLayers(
        ShapeSpec(channels=4),
        box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
        num_classes=3,
        cls_agnostic_bbox_reg=True,
    )


def _proposals(classes: list[int]) -> Instances:
    boxes = Boxes(torch.tensor([A] * len(classes)).reshape(-1, 4))
    return Instances((80, 80), proposal_boxes=boxes, gt_boxes=boxes, gt_classes=torch.tensor(classes).long())


def test_losses__mean_is_over_all_proposals_and_boxes_are_untouched() -> None:
    layers, proposals = _layers(), [_proposals([0, 3, 3, 1])]
    logits = torch.randn((4, 4), generator=torch.Generator().manual_seed(0))
    deltas = torch.ones((4, 4))
    plain = layers.losses((logits, deltas), proposals)
    dropped = layers.losses((logits, deltas), proposals, torch.tensor([1.0, 0, 0, 1]))
    single = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3, 3, 1]), reduction="none")
    assert float(plain["loss_cls"]) == pytest.approx(float(single.mean()))
    assert float(dropped["loss_cls"]) == pytest.approx(float(single[[0, 3]].sum()) / 4)
    assert torch.equal(plain["loss_box_reg"], dropped["loss_box_reg"])


def test_losses__no_proposals_is_zero() -> None:
    losses = _layers().losses((torch.zeros((0, 4)), torch.zeros((0, 4))), [_proposals([])], torch.zeros(0))
    assert all(float(value) == 0 for value in losses.values())


def test_drop_loss__all_stages_ignore_background_of_an_empty_image(
    build_tiny: Callable[..., nn.Module], build_sample: Callable[..., Sample]
) -> None:
    inputs = [to_detectron2(build_sample([]))] * 2
    dropping, plain = (build_tiny(use_drop_loss=flag)(inputs) for flag in (True, False))
    for stage in range(3):
        assert dropping[f"loss_cls_stage{stage}"].item() == 0
        assert plain[f"loss_cls_stage{stage}"].item() > 0


def _random_boxes(count: int, generator: torch.Generator) -> Boxes:
    corners = torch.rand((count, 2, 2), generator=generator) * torch.tensor([140.0, 80.0]) - 10
    return Boxes(torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1))


@pytest.mark.parametrize("levels", [3, 1])
@pytest.mark.parametrize("ratio", [0, 1, 2])
def test_sparse_pooler__equals_roi_align_in_value_and_gradient(ratio: int, levels: int) -> None:
    """With ratio 0 it takes the way that GPUs take with any."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(16 >> level, 32 >> level) for level in range(levels)]
    maps = [torch.randn((2, 3, *size), generator=generator, requires_grad=True) for size in sizes]
    boxes = [_random_boxes(20, generator), _random_boxes(7, generator)]
    options = {
        "output_size": 5,
        "scales": (1 / 4, 1 / 8, 1 / 16)[:levels],
        "sampling_ratio": ratio,
        "pooler_type": "ROIAlignV2",
        "canonical_box_size": 32,
    }
    results = []
    for pooler in (ROIPooler(**options), SparseROIPooler(**options)):
        pooled = pooler(maps, boxes)
        slope = torch.arange(pooled.numel()).view_as(pooled).sin()
        results.append((pooled, *torch.autograd.grad((pooled * slope).sum(), maps)))
    for expected, found in zip(*results, strict=True):
        assert torch.allclose(found, expected, atol=1e-4)
        assert expected.abs().max() > 0.1


def test_sparse_pooler__levels_are_not_asked_apart() -> None:
    """detectron2 asks a GPU at each level which boxes it has: 28 of 88 waits of a training step."""
    generator = torch.Generator().manual_seed(0)
    boxes = [_random_boxes(20, generator), _random_boxes(7, generator)]
    waits = []
    for kind in (ROIPooler, SparseROIPooler):
        pooler = kind(5, (1 / 4, 1 / 8, 1 / 16), 0, "ROIAlignV2", canonical_box_size=32)
        with counted_syncs("cpu") as places:
            pooler([torch.zeros((2, 3, 16 >> level, 32 >> level)) for level in range(3)], boxes)
        waits.append(places.total())
    assert waits == [3, 0]  # a CPU does not tell that the number of boxes is asked for, once


def test_sparse_pooler__boxes_of_a_trained_head_need_no_gradient() -> None:
    """Inference outside `torch.no_grad()` came here with boxes that require one, and numpy refused them."""
    boxes = torch.tensor([[1.0, 2.0, 9.0, 8.0]], requires_grad=True)
    features = torch.rand(1, 3, 8, 8, requires_grad=True)
    pooled = SparseROIPooler(5, (1 / 4,), 2, "ROIAlignV2")([features], [Boxes(boxes)])
    pooled.sum().backward()
    assert features.grad is not None and boxes.grad is None


def test_sparse_pooler__no_boxes() -> None:
    pooler = SparseROIPooler(5, (1 / 4,), 2, "ROIAlignV2")
    assert pooler([torch.zeros((1, 3, 8, 8))], [Boxes(torch.zeros((0, 4)))]).shape == (0, 3, 5, 5)


def test_shared_masks__crops_equal_bit_masks_without_copies() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand((3, 40, 60), generator=generator) < 0.5
    chosen = torch.tensor([2, 0, 2, 1])
    boxes = torch.tensor([[0.0, 0, 30, 20], [5, 5, 50, 35], [10, 0, 60, 40], [1, 2, 3, 9]])
    shared = SharedMasks(masks)[chosen]
    assert len(shared) == 4
    assert shared.masks.data_ptr() == masks.data_ptr()
    assert torch.equal(shared.crop_and_resize(boxes, 14), BitMasks(masks)[chosen].crop_and_resize(boxes, 14))


@pytest.mark.parametrize("channels", [3, 1])
def test_mask_loss__equals_detectron2(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((5, channels, 14, 14), generator=generator)
    masks = torch.rand((5, 40, 60), generator=generator) < 0.5
    instances = []
    for numbers in ([0, 1], [], [2, 3, 4]):
        boxes = Boxes(torch.tensor([[1.0 + n, 2, 30 + n, 33] for n in numbers]).reshape(-1, 4))
        classes = torch.tensor(numbers).long() % 3
        part = Instances((40, 60), proposal_boxes=boxes, gt_classes=classes)
        part.gt_masks = BitMasks(masks[torch.tensor(numbers).long()])
        instances.append(part)
    with EventStorage():
        expected = mask_rcnn_loss(logits, instances)
    assert torch.equal(mask_loss(logits, instances), expected)
    assert float(mask_loss(logits[:0], instances[1:2])) == 0
