"""Images of any size: the same result as at once, in little memory, whole or in tiles."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image
from torch import Tensor, nn

from cups.model.modeling.meta_arch.merge import Crop
from cups.model.sized import Found, SizedInference, enlarge_decision, join_tiles, paste
from cups.model.tta import PanopticFPNWithTTA, Views
from cups.ops.resize import resize_image
from cups.ops.working_size import tiles_of


@pytest.fixture(scope="module")
def network(build_tiny: Callable[..., nn.Module]) -> Any:
    """A network that finds things; each place has its own class."""
    model: Any = build_tiny(confidence_threshold=0.0).eval()
    torch.manual_seed(3)
    nn.init.normal_(model.sem_seg_head.predictor.weight, std=1.0)
    model.combine_instances_score_thresh = 0.0
    model.roi_heads.box_predictor[-1].test_topk_per_image = 20
    model.combine_stuff_area_fraction = 0.0
    model.combine_stuff_area_thresh = 1
    return model


def picture(height: int, width: int) -> np.ndarray:
    """Smooth coloured blobs."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def described(ids: Tensor, segments: list[dict[str, Any]]) -> np.ndarray:
    """Return an (H, W) map of kind and category, whatever the numbers of the segments."""
    kinds = [0] + [1 + 2 * segment["category_id"] + segment["isthing"] for segment in segments]
    return np.array(kinds)[ids.numpy()]


@pytest.mark.parametrize("things_first", [False, True])
def test_call__as_the_network_itself_at_full_size(
    network: Any, things_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's own way enlarges all logits and all masks; both give one map, up to rounding."""
    monkeypatch.setattr(network, "combine_things_first", things_first)
    monkeypatch.setattr("cups.model.sized.BAND_PIXELS", 3000)
    monkeypatch.setattr("cups.model.sized.CHUNK_ELEMENTS", 3000)
    image = picture(75, 150)
    small = cv2.resize(image, (100, 50), interpolation=cv2.INTER_AREA)
    item = {"image": torch.from_numpy(small).permute(2, 0, 1) / 255, "height": 75, "width": 150}
    with torch.no_grad():
        ids, segments = network([item])[0]["panoptic_seg"]
    found, listed = SizedInference(network, (50, 100))([image, image])[1]
    assert found.shape == (75, 150) and len(listed) == len(segments) > 5
    assert sum(segment["isthing"] for segment in listed) > 1
    assert (described(found, listed) == described(ids, segments)).mean() > 0.99


def test_call__follows_edges_as_the_network_itself(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "combine_snap_to_regions", True)
    image = picture(64, 128)
    item = {"image": torch.from_numpy(image).permute(2, 0, 1) / 255, "height": 64, "width": 128}
    with torch.no_grad():
        ids, segments = network([item])[0]["panoptic_seg"]
    found, listed = SizedInference(network, None)([image])[0]
    snapped = described(found, listed)
    assert (snapped == described(ids, segments)).mean() > 0.999
    monkeypatch.setattr(network, "combine_snap_to_regions", False)
    assert (snapped != described(*SizedInference(network, None)([image])[0])).mean() > 0.01


def test_call__scores_both_heads_agree_on_as_the_network_itself(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(64, 128)
    item = {"image": torch.from_numpy(image).permute(2, 0, 1) / 255}

    def scores(segments: list[dict[str, Any]]) -> list[float]:
        return [segment["score"] for segment in segments if segment["isthing"]]

    plain = scores(SizedInference(network, None)([image])[0][1])
    monkeypatch.setattr(network, "combine_semantic_weight", 0.5)
    with torch.no_grad():
        expected = scores(network([item])[0]["panoptic_seg"][1])
    assert len(expected) > 1 and expected != pytest.approx(plain, rel=0.1)
    for model in (network, PanopticFPNWithTTA(network, Views(), score_threshold=0.0)):
        assert scores(SizedInference(model, None)([image])[0][1]) == pytest.approx(expected, rel=0.02)


def test_call__the_threshold_of_augmentation_holds_for_scores_both_heads_agree_on(network: Any) -> None:
    """The network's own, lower one let objects through that `val.py` leaves out of the same image."""
    image, doubtful = picture(64, 128), copy.deepcopy(network)
    with torch.no_grad():
        doubtful.sem_seg_head.predictor.bias[0] -= 100  # things are less probable than their boxes say

    def scores(weight: float, threshold: float, sized: bool = True) -> list[float]:
        doubtful.combine_semantic_weight = weight
        model = PanopticFPNWithTTA(doubtful, Views(), score_threshold=threshold)
        _, segments = SizedInference(model, None)([image])[0] if sized else _own(model, image)
        return sorted(segment["score"] for segment in segments if segment["isthing"])

    boxes = scores(0.0, 0.0)
    threshold = 0.99 * boxes[0]
    assert len(scores(0.0, threshold)) == len(boxes) and min(scores(0.5, 0.0)) < threshold
    for sized in (True, False):
        kept = scores(0.5, threshold, sized)
        assert len(kept) < len(boxes) and min(kept, default=1.0) >= threshold


def _own(model: nn.Module, image: np.ndarray) -> tuple[Tensor, list[dict[str, Any]]]:
    with torch.no_grad():
        found: tuple[Tensor, list[dict[str, Any]]] = model(
            [{"image": torch.from_numpy(image).permute(2, 0, 1) / 255}]
        )[0]["panoptic_seg"]
    return found


def test_call__a_photo_and_its_enlarged_copy_have_one_map(network: Any) -> None:
    inference = SizedInference(network, (48, 96))
    image = picture(48, 96)
    large = cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    first, second = described(*inference([image])[0]), described(*inference([large])[0])
    repeated = first.repeat(4, axis=0).repeat(4, axis=1)
    inner = cv2.erode(
        (cv2.Laplacian(repeated.astype(np.uint8), cv2.CV_8U) == 0).astype(np.uint8), np.ones((5, 5))
    )
    assert second.shape == (192, 384) and inner.mean() > 0.3
    assert (repeated == second)[inner > 0].mean() >= 0.95
    native = described(*SizedInference(network, None)([large])[0])
    assert (repeated == native)[inner > 0].mean() < 0.9, "without a working size the copy is another image"


def test_call__test_time_augmentation(network: Any) -> None:
    wrapped = PanopticFPNWithTTA(network, Views(), score_threshold=0.0)
    image = picture(60, 120)
    first = described(*SizedInference(network, (48, 96))([image])[0])
    second = described(*SizedInference(wrapped, (48, 96))([image])[0])
    assert (first == second).mean() > 0.9


def test_call__tiles_decide_their_cores(network: Any) -> None:
    inference = SizedInference(network, None, tile_pixels=64 * 128)
    ids, segments = inference([picture(96, 320)])[0]
    assert ids.shape == (96, 320) and (ids > 0).float().mean() > 0.5
    assert {segment["id"] for segment in segments} >= set(ids.unique().tolist()) - {0}


def test_batch_size__falls_with_the_size(network: Any) -> None:
    inference = SizedInference(network, None)
    assert inference.batch_size((192, 384)) == 11
    assert inference.batch_size((2160, 3840)) == 1 and inference.batch_size((32, 32)) == 16
    assert SizedInference(network, (192, 384)).batch_size((2160, 3840)) == 11


def test_enlarge_decision__as_interpolating_all() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = resize_image(torch.randn((5, 6, 8), generator=generator), (12, 16))
    rows, columns = ((torch.arange(n * 5) + 0.5) / 5 - 0.5 for n in (10, 14))
    decided = enlarge_decision(
        logits, (10, 14), rows.clamp(0, 9), columns.clamp(0, 13), lambda values: values.argmax(dim=0)
    )
    whole = resize_image(logits[:, :10, :14], (50, 70)).argmax(dim=0)
    assert (decided == whole).float().mean() > 0.999


def test_paste__as_detectron2_does() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = resize_image(torch.rand((1, 4, 4), generator=generator), (28, 28))[0]
    left, top, right, bottom = 2.3, -1.5, 33.8, 22.9
    crop = paste(Found((left, top, right, bottom), mask, 0.9, 0), (2.0, 1.5), (40, 50))
    canvas = torch.zeros((40, 50), dtype=torch.bool)
    canvas[crop.top : crop.top + crop.mask.shape[0], crop.left : crop.left + crop.mask.shape[1]] = crop.mask
    scaled = torch.tensor([[left * 1.5, top * 2, right * 1.5, bottom * 2]])
    expected = paste_masks_in_image(mask[None], scaled, (40, 50))[0]
    assert (canvas == expected).float().mean() > 0.999 and 50 < canvas.sum() < 1500


def box(left: int, top: int, right: int, bottom: int, score: float, thing: int = 0) -> Found:
    return Found((left, top, right, bottom), torch.ones((bottom - top, right - left)), score, thing)


def test_join_tiles__an_object_across_the_border_is_one() -> None:
    tiles = tiles_of((40, 70), limit=1600)
    assert [tile.left for tile in tiles] == [0, 30]
    left = [box(20, 5, 40, 15, 0.9), box(2, 20, 9, 30, 0.7), box(32, 20, 38, 30, 0.6, thing=1)]
    right = [box(0, 5, 25, 15, 0.8), box(2, 20, 8, 30, 0.95, thing=0)]
    joined = join_tiles(tiles, [left, right])
    found = sorted((find.box, find.score, find.thing) for find in joined)
    assert found == [
        ((2.0, 20.0, 9.0, 30.0), 0.7, 0),
        ((20.0, 5.0, 55.0, 15.0), 0.9, 0),
        ((32.0, 20.0, 38.0, 30.0), 0.6, 1),
        ((32.0, 20.0, 38.0, 30.0), 0.95, 0),
    ]
    assert isinstance(paste(joined[0], (1.0, 1.0), (40, 70)), Crop)
