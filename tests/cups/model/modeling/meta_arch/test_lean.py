"""Maps in bands and masks in their boxes: the bits of detectron2's whole ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cups.detectron2_compat import prepare

prepare()

from detectron2.modeling.postprocessing import detector_postprocess  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402

from cups.model.modeling.meta_arch import lean  # noqa: E402
from cups.model.modeling.meta_arch.merge import decide_semantic  # noqa: E402
from cups.model.modeling.meta_arch.panoptic_fpn import finite_log  # noqa: E402
from cups.model.modeling.meta_arch.snap import region_means  # noqa: E402


@pytest.mark.parametrize("size", [(44, 512), (150, 603), (41, 57)])
@pytest.mark.parametrize("elements", [1, 2**15, 2**22])
def test_decide_in_bands__as_the_whole(
    size: tuple[int, int], elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "BAND_ELEMENTS", elements)
    shape = (5, -(-size[0] // 4) + 1, -(-size[1] // 4))  # a row of padding below
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)
    whole = whole[0, :, : size[0], : size[1]]
    seen: list[torch.Tensor] = []

    def decide(probabilities: torch.Tensor) -> torch.Tensor:
        seen.append(probabilities)
        return probabilities.argmin(dim=0)

    semantic, decided, things = lean.decide_in_bands(logits, 4, size, decide)
    assert len(seen) > 1 or elements == 2**22 or size == (41, 57)
    assert torch.equal(semantic, whole.argmax(dim=0))
    assert torch.equal(torch.cat(seen, dim=1), whole.softmax(dim=0))
    assert torch.equal(decided, whole.softmax(dim=0).argmin(dim=0))
    assert torch.equal(things, whole.softmax(dim=0)[0])


@pytest.mark.parametrize("size", [(64, 512), (128, 640), (41, 57)])
@pytest.mark.parametrize("things_first", [False, True])
def test_decide_in_regions__as_the_whole_map_that_follows_the_image(
    size: tuple[int, int], things_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole maps of 100 pseudo-classes took 4 GB for a frame of 1024 x 2048."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn((70, -(-size[0] // 4) + 1, -(-size[1] // 4)), generator=generator) * 20
    ids = torch.randint(0, 30, (-(-size[0] // 8), -(-size[1] // 8)), generator=generator)
    ids = ids.repeat_interleave(8, 0).repeat_interleave(8, 1)[: size[0], : size[1]]
    ids[ids == 7] = 8  # a region without pixels
    whole = F.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)
    whole = whole[0, :, : size[0], : size[1]].softmax(dim=0)
    followed = finite_log(region_means(whole, ids, 30)[:, ids])
    largest = []

    def decide(probabilities: torch.Tensor) -> torch.Tensor:
        largest.append(probabilities[0].numel())
        return decide_semantic(probabilities, things_first)

    monkeypatch.setattr(lean, "BAND_ELEMENTS", 2**18)
    given = logits, 4, size, (ids, 30), decide, finite_log
    semantic, decided, things = lean.decide_in_regions(*given)
    probabilities = followed.softmax(dim=0)
    assert torch.equal(semantic, followed.argmax(dim=0)) and len(semantic.unique()) > 5
    assert torch.equal(decided, decide_semantic(probabilities, things_first))
    assert max(largest) <= 64
    # Of a map whose pixels are no whole vectors, torch rounds the last ones otherwise.
    torch.testing.assert_close(things, probabilities[0], rtol=0 if size[1] > 100 else 1e-6, atol=0)


def test_mask_crops__as_detectron2_pastes_them() -> None:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand((40, 2), generator=generator) * torch.tensor([70.0, 50.0]) - 5
    boxes = torch.cat((corners, corners + torch.rand((40, 2), generator=generator) * 40), dim=1)
    boxes[3, 2:] = boxes[3, :2]  # without area
    boxes[4] = torch.tensor([0.0, 0.0, 64.0, 48.0])
    boxes[5] = torch.tensor([3.0, 4.0, 9.0, 11.0])
    found = Instances((48, 64))
    found.pred_boxes = Boxes(boxes)
    found.scores = torch.rand(40, generator=generator)
    found.pred_masks = torch.rand((40, 1, 7, 7), generator=generator)
    expected = detector_postprocess(Instances((48, 64), **found.get_fields()), 48, 64)
    kept, crop_of = lean.mask_crops(found, (48, 64))
    assert torch.equal(kept.scores, expected.scores) and 20 < len(kept) < 40
    for index, mask in enumerate(expected.pred_masks):
        top, left, crop = crop_of(index)
        pasted = torch.zeros_like(mask)
        pasted[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        assert torch.equal(pasted, mask)


@pytest.mark.parametrize("things_first", [False, True])
@pytest.mark.parametrize(("snap", "weight"), [(False, 0.0), (True, 0.0), (False, 0.4), (True, 0.4)])
def test_predict_maps__as_the_network_itself(
    build_tiny: Callable[..., nn.Module], things_first: bool, snap: bool, weight: float
) -> None:
    model: Any = build_tiny(confidence_threshold=0.0).eval()
    torch.manual_seed(3)
    nn.init.normal_(model.sem_seg_head.predictor.weight, std=1.0)
    model.combine_instances_score_thresh = 0.0
    model.combine_things_first, model.combine_snap_to_regions = things_first, snap
    model.combine_semantic_weight = weight
    images = [
        torch.rand((3, *size), generator=torch.Generator().manual_seed(2)) for size in ((70, 100), (64, 96))
    ]
    inputs = [{"image": image, "height": image.shape[1], "width": image.shape[2]} for image in images]
    with torch.no_grad():
        plain = model([dict(item) for item in inputs])
    maps = model.predict_maps(inputs)
    batch = model.preprocess_image(inputs).tensor
    with torch.no_grad():
        whole, freed = model.backbone(batch), lean.pyramid(model.backbone, batch)
    assert list(whole) == list(freed) and all(torch.equal(whole[name], freed[name]) for name in whole)
    for one, other in zip(maps, plain, strict=True):
        assert torch.equal(one["semantic"], other["sem_seg"].argmax(dim=0))
        assert torch.equal(one["panoptic_seg"][0], other["panoptic_seg"][0])
        found, wanted = (
            [segment.pop("score", 0.0) for segment in o["panoptic_seg"][1]] for o in (one, other)
        )
        # A mean over another box around the mask is summed in another order.
        assert found == (pytest.approx(wanted, rel=1e-5) if weight else wanted)
        assert one["panoptic_seg"][1] == other["panoptic_seg"][1]
        assert {bool(segment["isthing"]) for segment in one["panoptic_seg"][1]} >= {True}
