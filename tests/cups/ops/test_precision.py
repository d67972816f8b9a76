"""Under autocast features are narrow, and nothing geometric is: boxes, masks, blur, what is enlarged."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling import box_regression
from detectron2.modeling.proposal_generator import proposal_utils
from detectron2.modeling.roi_heads import fast_rcnn
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor, nn

from cups.augmentation import Photometric
from cups.model import tta
from cups.model.backbone_dinov2_vit import resample
from cups.model.inputs import to_detectron2
from cups.model.modeling.roi_heads import pooler
from cups.model.sized import Found, SizedInference, paste
from cups.ops.precision import full_precision, widen
from cups.structures import Sample

# As an attribute of the package, this name is the function.
detectron2_roi_align = import_module("detectron2.layers.roi_align")
Builder = Callable[..., nn.Module]
NARROW = [torch.bfloat16, torch.float16]
POOLERS = {"gpu": 0, "sparse": 2}
"""Sampling ratios: an adaptive one leads on the CPU to the operator that GPUs use."""
SIZE = (1024, 2048)


def narrow(dtype: torch.dtype = torch.bfloat16) -> torch.autocast:
    return torch.autocast("cpu", dtype)


def build(build_tiny: Builder, ratio: int) -> Any:
    keys = ("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO")
    model: Any = build_tiny(*(part for key in keys for part in (key, ratio)), confidence_threshold=0.0)
    return model


def far_boxes() -> Tensor:
    """Boxes of 12 and 32 pixels all over a large image, at odd places."""
    corners = torch.tensor([[3.3, 5.7], [517.3, 233.9], [1029.7, 771.1], [1803.3, 951.7], [2011.3, 977.9]])
    return torch.cat([torch.cat((corners, corners + side), dim=1) for side in (12.0, 32.0)])


class Spy:
    """Records the number formats of the tensors that functions are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.seen: dict[str, set[torch.dtype]] = {}

    def watch(self, name: str, *places: Any) -> None:
        """Watch the function of a name in one or more modules."""
        original = next(getattr(place, name) for place in places if hasattr(place, name))

        def spied(*arguments: Any, **options: Any) -> Any:
            tensors = (x for x in (*arguments, *options.values()) if isinstance(x, Tensor))
            self.seen.setdefault(name, set()).update(x.dtype for x in tensors if x.is_floating_point())
            return original(*arguments, **options)

        for place in places:
            self.patch.setattr(place, name, spied, raising=False)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Watches whatever has to do with boxes, masks and losses, ours and detectron2's."""
    spy = Spy(monkeypatch)
    spy.watch("roi_align", pooler, detectron2_roi_align)
    spy.watch("axis_weights", pooler)
    spy.watch("batched_nms", proposal_utils)
    spy.watch("batched_nms", fast_rcnn)
    spy.watch("batched_nms", tta)
    spy.watch("smooth_l1_loss", box_regression)
    for name in ("grid_sample", "binary_cross_entropy_with_logits", "cross_entropy", "softmax"):
        spy.watch(name, torch.nn.functional)
    return spy


def test_widen__narrow_floats_alone() -> None:
    for dtype, wide in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64,) * 2,
    ):
        assert widen(torch.ones(1, dtype=dtype)).dtype == wide
    with narrow(), full_precision("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("path", POOLERS)
def test_training_step__nothing_geometric_is_narrow(
    build_tiny: Builder, sample: Sample, spy: Spy, path: str
) -> None:
    model = build(build_tiny, POOLERS[path])
    with narrow():
        losses = model([to_detectron2(sample)] * 2)
    expected = {"roi_align", "batched_nms", "smooth_l1_loss", "binary_cross_entropy_with_logits"}
    assert set(spy.seen) >= expected | {"cross_entropy"} | ({"axis_weights"} if path == "sparse" else set())
    assert all(seen == {torch.float32} for seen in spy.seen.values()), spy.seen
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()


@pytest.mark.parametrize("path", POOLERS)
def test_inference__nothing_geometric_is_narrow(
    build_tiny: Builder, sample: Sample, spy: Spy, path: str
) -> None:
    model = build(build_tiny, POOLERS[path]).eval()
    model.roi_heads.box_predictor[-1].test_topk_per_image = 4
    views = tta.PanopticFPNWithTTA(model, tta.Views((0.75,), flip=True), 0.0)
    image = (sample.image.permute(1, 2, 0) * 255).byte().numpy()
    with torch.no_grad(), narrow():
        outputs = model([{"image": sample.image}]) + views([{"image": sample.image}])
        SizedInference(model, None)([image])
    assert set(spy.seen) >= {"batched_nms", "grid_sample", "softmax"}
    assert all(seen == {torch.float32} for seen in spy.seen.values()), spy.seen
    for output in outputs:
        assert output["sem_seg"].dtype == output["instances"].scores.dtype == torch.float32
        assert len(output["instances"]) > 0


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("path", POOLERS)
def test_roi_heads__a_box_stays_itself_all_the_way(
    build_tiny: Builder, monkeypatch: pytest.MonkeyPatch, path: str, dtype: torch.dtype
) -> None:
    """In bfloat16 the IoU of such boxes with themselves was 0.73 (12 pixels) and 0.89 (32 pixels)."""
    heads = build(build_tiny, POOLERS[path]).eval().roi_heads
    for layer in (*(p.bbox_pred for p in heads.box_predictor), heads.mask_head.predictor):
        nn.init.zeros_(layer.weight)
    nn.init.constant_(heads.mask_head.predictor.bias, 9.0)
    rois: list[Tensor] = []

    def remember(features: Tensor, boxes: Tensor, *rest: Any) -> Tensor:
        rois.append(boxes[:, 1:])
        return features.new_zeros((len(boxes), features.shape[1], *rest[0]))

    for place in (pooler, detectron2_roi_align):
        monkeypatch.setattr(place, "roi_align", remember, raising=False)
    boxes = far_boxes()
    features = {
        f"p{level}": torch.zeros((1, 32, *(s >> level for s in SIZE)), dtype=dtype) for level in range(2, 6)
    }
    proposals = Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(len(boxes)))
    with torch.no_grad(), narrow(dtype):
        found = heads.detect_boxes(features, [proposals])
        (found,) = heads.forward_with_given_boxes(features, found)
        masks = paste_masks_in_image(found.pred_masks[:, 0], found.pred_boxes, SIZE)
    assert found.pred_masks.dtype == found.scores.dtype == torch.float32
    truth = Boxes(boxes)
    handed = [found.pred_boxes, *(Boxes(part) for part in rois if len(part))]
    assert bool(rois) == (path == "gpu")
    for given in handed:
        assert pairwise_iou(given, truth).amax(dim=1).min() > 0.9999
    full = torch.full_like(found.pred_masks[:, 0], float(torch.tensor(9.0).sigmoid()), dtype=torch.float32)
    assert torch.equal(masks, paste_masks_in_image(full, found.pred_boxes, SIZE))
    assert masks.flatten(1).sum(dim=1).min() > 0.9 * 12**2


def test_pooling__narrow_features_in_exact_boxes(build_tiny: Builder) -> None:
    """Features change between neighbouring cells: a box beside its place shows."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn((1, 4, 8, 512), generator=generator).bfloat16()]
    boxes = [Boxes(torch.tensor([[2011.3, 5.7, 2023.3, 17.7], [1803.3, 3.1, 1835.3, 31.1]]))]
    exact, given = (pooler.SparseROIPooler(3, (1 / 4,), ratio, "ROIAlignV2") for ratio in (2, 0))
    with narrow():
        pooled = given(features, boxes)
    wide = given([features[0].float()], boxes)
    assert pooled.dtype == torch.bfloat16 and exact(features, boxes).dtype == torch.bfloat16
    assert torch.equal(pooled, wide.bfloat16())


def test_resample__narrow_features_on_an_exact_grid() -> None:
    features = torch.randn((1, 3, 46, 147), generator=torch.Generator().manual_seed(0)).bfloat16()
    with narrow():
        found = resample(features, 14, 16, (640, 2048))
    assert torch.equal(found, resample(features.float(), 14, 16, (640, 2048)).bfloat16())


def test_paste__same_under_autocast() -> None:
    mask = torch.rand((28, 28), generator=torch.Generator().manual_seed(0))
    find = Found((1803.3, 51.7, 2011.3, 177.9), mask, 1.0, 0)
    with narrow():
        found = paste(find, (1.0, 1.0), (256, 2048))
    assert torch.equal(found.mask, paste(find, (1.0, 1.0), (256, 2048)).mask)


def test_photometric__same_under_autocast(sample: Sample) -> None:
    """Blur in bfloat16 was two grey levels off."""
    change = Photometric(1.0, jitter_probability=1.0, grayscale_probability=0.5)
    for seed in range(4):
        images = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                images.append(change(sample, torch.Generator().manual_seed(seed)).image)
        assert images[1].dtype == torch.float32
        np.testing.assert_allclose(images[1], images[0], atol=1e-6)
