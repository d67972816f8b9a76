"""Test-time augmentation: geometry of the views, what is pooled, what is averaged."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from cups.model import tta
from cups.model.modeling.meta_arch import merge_panoptic
from cups.model.tta import PanopticFPNWithTTA, Views, drawn_classes


class _SeesColours(nn.Module):
    """A network of the right interface that acts on each pixel alone, so what it must see is known.

    Semantics are the colour channels; the one object of class 1 is the box of all pixels that are not black,
    its mask the red ones. It is pointwise: every view of an image shows it the same.
    """

    device = torch.device("cpu")

    def __init__(self, scores: dict[int, float] | None = None) -> None:
        super().__init__()
        self.scores = scores or {}
        self.shapes: list[tuple[int, ...]] = []
        self.roi_heads = SimpleNamespace(
            things_together=False,
            detect_boxes=self._detect,
            forward_with_given_boxes=self._masks,
            box_predictor=[SimpleNamespace(test_nms_thresh=0.5, test_topk_per_image=100)],
        )

    def preprocess_image(self, batched_inputs: list[dict[str, Tensor]]) -> ImageList:
        return ImageList.from_tensors([item["image"] for item in batched_inputs], size_divisibility=32)

    def backbone(self, images: Tensor) -> dict[str, Tensor]:
        self.shapes.append(tuple(images.shape))
        return {"image": images}

    def sem_seg_head(self, features: dict[str, Tensor], _: None) -> tuple[Tensor, dict[str, Tensor]]:
        return features["image"] * 9.0, {}

    def proposal_generator(self, images: ImageList, *_: Any) -> tuple[list[Any], dict[str, Tensor]]:
        return [None for _ in images.image_sizes], {}

    def _detect(self, features: dict[str, Tensor], _: list[None]) -> list[Instances]:
        found = []
        for image in features["image"]:
            rows, columns = torch.nonzero(image.sum(dim=0) > 0.5).unbind(1)
            box = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
            score = self.scores.get(image.shape[-1], 0.9)
            found.append(
                Instances(
                    (image.shape[-2], image.shape[-1]),
                    pred_boxes=Boxes(box[None]),
                    scores=torch.tensor([score]),
                    pred_classes=torch.tensor([1]),
                    class_probabilities=torch.tensor([[0.2, 0.4, 0.3]]),
                )
            )
        return found

    def _masks(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        for image, found in zip(features["image"], instances, strict=True):
            crops = []
            for left, top, right, bottom in found.pred_boxes.tensor.round().int().tolist():
                red = image[:1, top:bottom, left:right][None]
                crops.append(nn.functional.interpolate(red, size=(28, 28), mode="bilinear"))
            found.pred_masks = torch.cat(crops) if crops else torch.zeros(0, 1, 28, 28)
        return instances

    def with_regions(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return batched_inputs

    def follow_image(self, probabilities: Tensor, _: dict[str, Any]) -> Tensor:
        return probabilities

    def merge(
        self, instances: Instances, probabilities: Tensor, score_threshold: float
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        semantic = probabilities.argmax(dim=0)
        return merge_panoptic(instances, semantic, stuff_area_limit=0, score_threshold=score_threshold)


def _picture(height: int = 150, width: int = 225) -> Tensor:
    """A black image with an object right of the middle: its left half red, its right half green."""
    image = torch.zeros(3, height, width)
    image[0, 40:100, 120:160] = 1.0
    image[1, 40:100, 160:200] = 1.0
    return image


def with_views(
    model: nn.Module,
    scales: tuple[float, ...] = (0.5, 0.75, 1.0),
    flip: bool = True,
    score_threshold: float = 0.5,
    **options: Any,
) -> PanopticFPNWithTTA:
    """Return the network over CUPS's views where no others are given."""
    return PanopticFPNWithTTA(model, Views(scales, flip), score_threshold, **options)


def test_semantics__padding_goes_before_mirroring_and_resizing() -> None:
    """Upstream mirrors and resizes the padded 160x256 map of a 150x225 view: all moves by up to 31 pixels."""
    image = torch.rand(3, 150, 225, generator=torch.Generator().manual_seed(0))
    output = with_views(_SeesColours(), scales=(1.0,))([{"image": image}])[0]
    torch.testing.assert_close(output["sem_seg"], (image * 9).softmax(dim=0))


def test_views__image_and_mirror_image_share_a_batch() -> None:
    network = _SeesColours()
    with_views(network, scales=(0.5, 1.0), base_size=100)([{"image": _picture()}])
    assert network.shapes == [(2, 3, 64, 96), (2, 3, 128, 160)]  # 50x75 and 100x150, padded to 32
    network.shapes.clear()
    with_views(network, scales=(0.5,), flip=False)([{"image": _picture()}])
    assert network.shapes == [(1, 3, 96, 128)]  # 75x112: relative to the image's own short side


def test_detections__boxes_and_masks_come_back_from_every_view() -> None:
    output = with_views(_SeesColours(), scales=(0.5, 0.75, 1.0))([{"image": _picture()}])[0]
    found = output["instances"]
    assert found.pred_classes.tolist() == [1], "six views of one object are one object"
    torch.testing.assert_close(
        found.pred_boxes.tensor, torch.tensor([[120.0, 40.0, 200.0, 100.0]]), atol=1.5, rtol=0
    )
    mask = found.pred_masks[0]
    assert mask[45:95, 124:156].all(), "the red half, which is the left one in the image and in no mirror"
    assert not mask[:, 164:].any()


def test_output__is_at_the_size_asked_for() -> None:
    item = {"image": _picture(), "height": 300, "width": 450}
    output = with_views(_SeesColours())([item])[0]
    assert output["sem_seg"].shape == (3, 300, 450)
    assert output["instances"].pred_masks.shape == (1, 300, 450)
    assert output["panoptic_seg"][0].shape == (300, 450)
    torch.testing.assert_close(
        output["instances"].pred_boxes.tensor, torch.tensor([[240.0, 80.0, 400.0, 200.0]]), atol=3, rtol=0
    )


def test_score_threshold__one_confident_view_is_enough() -> None:
    """Scores by the padded width of the view: 128 and 256 pixels."""
    network = _SeesColours(scores={128: 0.4, 256: 0.72})
    wrapper = with_views(network, scales=(0.5, 1.0), score_threshold=0.7)
    assert wrapper([{"image": _picture()}])[0]["instances"].scores.tolist() == pytest.approx([0.72])
    wrapper.score_threshold = 0.75
    output = wrapper([{"image": _picture()}])[0]
    assert len(output["instances"]) == 0
    assert not any(segment["isthing"] for segment in output["panoptic_seg"][1])


@pytest.mark.parametrize("views", [1, 2])
def test_mean_probabilities__in_strips_the_same_bits(views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn((views, 7, 48, 20), generator=torch.Generator().manual_seed(0)) * 5
    seen = torch.stack((logits[0], logits[1].flip(-1))) if views == 2 else logits
    whole = seen.softmax(dim=1).mean(dim=0)
    for rows in (1, 16, 50):
        monkeypatch.setitem(tta.STRIP_ELEMENTS, "cpu", rows * views * 7 * 20)
        assert torch.equal(tta.mean_probabilities(logits), whole)


def test_generator__draws_the_class_of_an_object() -> None:
    model = with_views(_SeesColours())
    plain, drawn = model([{"image": _picture()}]), torch.Generator().manual_seed(0)
    assert [found["instances"].pred_classes.tolist() for found in plain] == [[1]]
    seen = [model([{"image": _picture()}], drawn)[0] for _ in range(20)]
    counts = torch.bincount(torch.cat([found["instances"].pred_classes for found in seen]), minlength=3)
    assert counts.min() > 0
    for found in seen:
        (thing,) = [segment for segment in found["panoptic_seg"][1] if segment["isthing"]]
        assert thing["category_id"] == found["instances"].pred_classes.item()
        assert torch.equal(found["instances"].pred_masks, plain[0]["instances"].pred_masks)


def test_drawn_classes__follow_their_shares() -> None:
    """They need not sum to 1: what is left is the probability of no object at all."""
    shares = torch.tensor([[0.1, 0.0, 0.3]]).expand(20_000, 3)
    counts = torch.bincount(drawn_classes(shares, torch.Generator().manual_seed(0)), minlength=3)
    assert counts[1] == 0 and counts[2] / counts.sum() == pytest.approx(0.75, abs=0.01)
    assert drawn_classes(torch.zeros(0, 3), torch.Generator()).shape == (0,)
    assert drawn_classes(torch.zeros(5, 3), torch.Generator()).max() < 3


def test_wrapper__stays_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3))
    wrapper = with_views(network).train()
    assert not wrapper.training and not network[0].training
    with pytest.raises(ValueError, match="above 0"):
        with_views(network, scales=())


@pytest.fixture(scope="module")
def tiny(build_tiny: Callable[..., nn.Module]) -> nn.Module:
    model = build_tiny(confidence_threshold=0.5).eval()
    for predictor in model.roi_heads.box_predictor:
        predictor.cls_score.weight.data.mul_(50)  # random weights alone are sure of nothing
    return model


def test_network__one_plain_view_is_the_network_itself(tiny: nn.Module) -> None:
    image = torch.rand(3, 70, 100, generator=torch.Generator().manual_seed(1))
    wrapper = with_views(tiny, scales=(1.0,), flip=False)
    with torch.no_grad():
        ours, plain = wrapper([{"image": image}])[0], tiny([{"image": image}])[0]
    assert len(plain["instances"]) > 0
    assert torch.equal(ours["instances"].pred_boxes.tensor, plain["instances"].pred_boxes.tensor)
    assert torch.equal(ours["instances"].pred_masks, plain["instances"].pred_masks)
    torch.testing.assert_close(ours["sem_seg"], plain["sem_seg"].softmax(dim=0))
    assert torch.equal(ours["panoptic_seg"][0], plain["panoptic_seg"][0])


def test_network__mirrored_image_gives_the_mirrored_result(tiny: nn.Module) -> None:
    """An image and its mirror image have the same views, so the same mean, whatever the network."""
    image = torch.rand(3, 75, 113, generator=torch.Generator().manual_seed(2))
    wrapper = with_views(tiny, scales=(0.75, 1.0))
    ours, mirrored = (wrapper([{"image": item}])[0] for item in (image, image.flip(-1)))
    torch.testing.assert_close(ours["sem_seg"], mirrored["sem_seg"].flip(-1), atol=1e-4, rtol=0)
    assert len(ours["instances"]) == len(mirrored["instances"]) > 0
    left, top, right, bottom = mirrored["instances"].pred_boxes.tensor.unbind(dim=1)
    unflipped = torch.stack((113 - right, top, 113 - left, bottom), dim=1)
    torch.testing.assert_close(ours["instances"].pred_boxes.tensor, unflipped, atol=1e-3, rtol=0)


def test_views__what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Views((1.0, 0.0))
    assert Views((0.5, 1.0), flip=True).passes == 2.5
