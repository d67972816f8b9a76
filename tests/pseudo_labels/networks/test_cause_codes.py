"""Codes by sliding windows: tiling, order, and what batches must not change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pseudo_labels.networks.cause_codes import (
    PUBLISHED_TILING,
    TEXTON_TILING,
    CauseModel,
    FeatureExtractor,
    Tiling,
    _sampling,
    _starts,
    default_tiling,
)
from pseudo_labels.networks.cause_heads import load_cause
from pseudo_labels.settings.cause import HeadsChoice


def test_default_tiling__whole_patches() -> None:
    assert default_tiling("dinov2_vitb14", 14) == PUBLISHED_TILING
    assert default_tiling("texton", 4) == Tiling(height=192, window=96, stride=48)
    assert default_tiling("dinov3_vitb16", 16) == Tiling(height=640, window=320, stride=160)


def test_codes__windows_and_batches_make_no_difference(textures: Path) -> None:
    """One window over the whole image, alone or with its neighbours in a batch, gives the same codes."""
    choice = HeadsChoice(device="cpu", backbone="texton")
    one, many = (load_cause(choice, textures / "cause_texton", batch=batch) for batch in (1, 16))
    image = one.extractor.image(
        textures / "leftImg8bit" / "train" / "aaa" / "aaa_000000_000000_leftImg8bit.png"
    )
    torch.testing.assert_close(one.codes(image), many.codes(image))


def test_starts__cover_the_side() -> None:
    assert _starts(644, 322, 161) == [0, 161, 322]
    assert _starts(100, 32, 32) == [0, 32, 64, 68]
    assert _starts(32, 32, 16) == [0]


def sampled(offset: float, side: int, length: int) -> list[list[float]]:
    """Return the weights for all tokens of an image, (length, side), and check that the rest is nothing."""
    covered, weights = _sampling(offset, side, length)
    whole = torch.zeros(length, side)
    whole[covered] = weights
    return whole.tolist()


def test_sampling__half_token_offset_takes_the_mean_of_two() -> None:
    # tokens of the image at -0.5, 0.5 and 1.5 of the window: its border, the middle, its border
    assert sampled(0.5, side=2, length=3) == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    assert sampled(1.0, 2, 4) == [[0, 0], [1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 0.75, 6.5, 30.0, 36.4])
def test_sampling__covers_a_window_alone_and_leaves_nothing_out(offset: float) -> None:
    """Of every token of the image, a window of a native image once took each."""
    covered, _ = _sampling(offset, side=4, length=40)
    position = torch.arange(40) - offset
    inside = (position > -0.75) & (position < 3.75)
    assert covered.stop - covered.start <= 5
    assert (torch.tensor(sampled(offset, 4, 40)).sum(1) == inside).all()


class Columns(nn.Module):
    """A backbone whose features are the values of its cells, and a head that gives its tokens back."""

    patch_size, embed_dim = 4, 3

    def __init__(self, local: bool) -> None:
        super().__init__()
        self.local = local

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(images, self.patch_size)

    def head_ema(
        self, tokens: torch.Tensor, codebook: object, grid: tuple[int, int], nearest: torch.Tensor
    ) -> torch.Tensor:
        return tokens


def columns_model(local: bool, **more: bool) -> CauseModel:
    backbone = Columns(local)
    extractor = FeatureExtractor("columns", backbone, Tiling(0, 32, 16), torch.device("cpu"))
    return CauseModel(extractor, backbone, SimpleNamespace(codebook=torch.ones(1, 3)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("width", [64, 72, 100, 116], ids=["2:1", "9:4", "KITTI", "uneven"])
def test_codes__a_window_and_its_mirror_image_show_the_same_pixels(local: bool, width: int) -> None:
    """Each pixel holds its column. (The mirrored image's own windows lay 4 pixels off at 100.)"""
    image = torch.arange(float(width)).expand(1, 3, 32, width)
    model = columns_model(local)
    places = model.extractor.places(image)
    plain, mirrored = (model.extractor.windows(image, places, mirror) for mirror in (False, True))
    assert torch.equal(mirrored.flip(3), plain)
    columns = torch.arange(1.5, width, 4).expand(8, -1)
    torch.testing.assert_close(model.codes(image)[..., 0], columns)
    torch.testing.assert_close(model.codes(image.flip(3))[..., 0], columns.flip(1))


def test_codes__without_flip_each_window_is_seen_once() -> None:
    image = torch.arange(100.0).expand(1, 3, 32, 100)
    asked = []
    model = columns_model(False, flip=False)
    model.extractor.backbone.register_forward_hook(lambda *_: asked.append(1))
    model.codes(image)
    assert len(asked) == 1 and model.codes(image).shape == (8, 25, 3)


def test_spread_evenly__by_aspect() -> None:
    """Windows of the published tiling: even on Cityscapes, not on KITTI or 4:3."""
    extractor = FeatureExtractor("columns", Columns(False), PUBLISHED_TILING, torch.device("cpu"))
    extractor.backbone.patch_size = 14
    sizes = ((1024, 2048), (500, 750), (300, 300), (376, 1241), (480, 640))
    assert [extractor.spread_evenly(*size) for size in sizes] == [True, True, True, False, False]


def test_size__a_local_backbone_shrinks_large_images_only() -> None:
    """At full size, 96-pixel windows were 882 passes; a window of half the height gives 21 at any size."""
    extractor = FeatureExtractor("columns", Columns(True), TEXTON_TILING, torch.device("cpu"))
    sizes = ((192, 384), (1024, 2048), (128, 256))
    assert [extractor.size(*size) for size in sizes] == [(192, 384), (192, 384), (128, 256)]
    assert len(extractor.places(torch.empty(1, 3, 192, 384))) == 21
    # Heads of an earlier version have their own tiling: images as they are.
    native = replace(extractor, tiling=Tiling(0, 96, 48))
    assert native.size(1024, 2048) == (1024, 2048)
