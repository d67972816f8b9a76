"""Codes by sliding windows: tiling, order, and what batches must not change."""

from __future__ import annotations

from pathlib import Path

import torch

from pseudo_labels.networks.cause_codes import (
    PUBLISHED_TILING,
    Tiling,
    _mirror_order,
    _sampling,
    _starts,
    default_tiling,
)
from pseudo_labels.networks.cause_heads import load_cause
from pseudo_labels.settings.cause import HeadsChoice


def test_default_tiling__whole_patches() -> None:
    assert default_tiling("dinov2_vitb14", 14) == PUBLISHED_TILING
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


def test_sampling__half_token_offset_takes_the_mean_of_two() -> None:
    weights = _sampling(0.5, side=2, length=3)
    # tokens of the image at -0.5, 0.5 and 1.5 of the window: its border, the middle, its border
    assert weights.tolist() == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    assert _sampling(1.0, 2, 4).tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]


def test_mirror_order__pairs_windows_of_the_same_pixels() -> None:
    assert _mirror_order([(0, 0), (0, 16), (0, 32)], width=64, window=32) == [2, 1, 0]
