"""Semantic probabilities that follow the edges of the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cups.model import MergeChoices
from cups.model.inputs import inference_inputs
from cups.model.modeling.meta_arch import snap
from cups.model.modeling.meta_arch.snap import (
    decide_once,
    region_means,
    regions_ahead,
    regions_at,
    snap_to_regions,
)
from cups.model.sized import SizedInference
from cups.model.tta import PanopticFPNWithTTA, Views
from cups.ops.regions import Regions
from cups.training.self_training import semantic_targets


def halves(height: int = 48, width: int = 96, border: int = 40) -> Tensor:
    """An image of two even colours, which meet between column `border` - 1 and `border`."""
    image = torch.zeros(3, height, width)
    image[0, :, :border], image[2, :, border:] = 0.9, 0.6
    return image


def found(image: Tensor) -> Regions:
    """The regions of an image, as a network gets them."""
    (regions,) = regions_ahead([image])
    return regions.result()


def test_region_means__as_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand((3, 5, 7), generator=generator)
    ids = torch.randint(0, 3, (5, 7), generator=generator)
    means = region_means(values, ids, 4)
    for region in range(3):
        torch.testing.assert_close(means[:, region], values[:, ids == region].mean(dim=1))
    assert means[:, 3].tolist() == [0, 0, 0]  # a region without pixels


@pytest.mark.parametrize("factor", [1, 2])
def test_snap__a_border_moves_to_the_edge_of_the_image(factor: int) -> None:
    image = halves()
    # The network's border is four pixels off the edge.
    right = (torch.arange(96 * factor) >= 44 * factor).float().expand(48 * factor, -1)
    snapped = snap_to_regions(torch.stack((1 - right, right)), found(image))
    expected = (torch.arange(96 * factor) >= 40 * factor).long().expand(48 * factor, -1)
    assert torch.equal(snapped.argmax(dim=0), expected)
    torch.testing.assert_close(snapped.sum(dim=0), torch.ones(48 * factor, 96 * factor))


def test_snap__an_even_region_gets_one_vector() -> None:
    values = torch.rand((4, 48, 96), generator=torch.Generator().manual_seed(1)).softmax(dim=0)
    snapped = snap_to_regions(values, found(halves()))
    for part in (snapped[:, :, :40], snapped[:, :, 40:]):
        # Regions are cut in halves where they are large: few vectors, not one for each pixel.
        assert len(part.flatten(1).T.unique(dim=0)) <= 16
    torch.testing.assert_close(snapped.mean(dim=(1, 2)), values.mean(dim=(1, 2)))


@pytest.mark.parametrize("things_first", [False, True])
def test_decide_once__labels_are_those_of_all_pixels(things_first: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand((3, 48, 96), generator=generator)
    regions = regions_at(found(image), (48, 96), image.device)
    values = (torch.randn((5, 48, 96), generator=generator) * 3).softmax(dim=0)
    snapped = snap_to_regions(values, found(image))

    def decide(probabilities: Tensor) -> Tensor:
        return semantic_targets(probabilities, 0.5, things_first)

    labels = decide(snapped)
    assert torch.equal(decide_once(decide, snapped, regions), labels)
    assert len(labels.unique()) > 3
    # Of the ids, some have no pixel.
    assert torch.equal(decide_once(decide, snapped, (regions[0], regions[1] + 9)), labels)


def test_network__plain_and_augmented_output_follow_the_image(build_tiny: Callable[..., nn.Module]) -> None:
    model: Any = build_tiny().eval()
    image = halves(64, 128)
    plain = model(inference_inputs([image]))[0]["sem_seg"]
    MergeChoices().apply(model)
    assert not model.combine_snap_to_regions
    MergeChoices(True).apply(model)
    (snapped,) = model(inference_inputs([image]))
    torch.testing.assert_close(
        snapped["sem_seg"].softmax(dim=0),
        snap_to_regions(plain.softmax(dim=0), found(image)),
        atol=1e-5,
        rtol=0,
    )
    augmented = PanopticFPNWithTTA(model, Views(), score_threshold=0.5)
    probabilities = augmented(inference_inputs([image]))[0]["sem_seg"]
    torch.testing.assert_close(probabilities, snapped["sem_seg"].softmax(dim=0), atol=1e-5, rtol=0)


def test_regions__are_found_once_an_image_whatever_asks(
    build_tiny: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = build_tiny().eval()
    MergeChoices(True).apply(model)
    images = [halves(64, 128), halves(64, 128, border=70)]
    seen: list[int] = []
    even_regions = snap.even_regions

    def counted(pixels: Any) -> Regions:
        seen.append(int((pixels[0, :, 0] > 0).sum()))
        return even_regions(pixels)

    monkeypatch.setattr(snap, "even_regions", counted)
    pixels = [(image * 255).round().byte().permute(1, 2, 0).numpy() for image in images]
    for predict in (
        lambda: model(inference_inputs(images)),
        lambda: model.predict_maps(inference_inputs(images)),
        lambda: PanopticFPNWithTTA(model, Views((0.5, 1.0), flip=True), 0.5)(inference_inputs(images)),
        lambda: SizedInference(model, None)(pixels),
    ):
        seen.clear()
        predict()
        assert sorted(seen) == [40, 70]
    MergeChoices(False).apply(model)
    seen.clear()
    model(inference_inputs(images))
    assert not seen
