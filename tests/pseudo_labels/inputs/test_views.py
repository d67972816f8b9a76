"""Views of images: what overlaps, and where each place of a view lies in the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cups.backbones.texton import IMAGENET_MEAN, IMAGENET_STD
from cups.io.png import write_png
from cups.structures import Draw
from pseudo_labels.inputs import views
from pseudo_labels.inputs.views import ViewPairs


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """An image whose red tells the column and whose green tells the row."""
    y, x = np.mgrid[:96, :160]
    write_png(tmp_path / "ramp.png", np.stack((x, y, np.full_like(x, 80)), axis=-1).astype(np.uint8))
    return tmp_path / "ramp.png"


def test_view_pairs__grids_say_what_is_seen(ramp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without changes of colour, the middle of each place has the colour of where the grid says it lies."""
    for name in ("JITTER", "SATURATION", "GRAY", "BLUR"):
        monkeypatch.setattr(views, name, 0.0)
    pairs = ViewPairs([ramp], 0, 64, 32, (0.6, 1.4), 0.3)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (IMAGENET_MEAN, IMAGENET_STD))
    for number in range(8):
        item = pairs[Draw(0, number)]
        assert item["views"].shape == (2, 3, 64, 64) and item["grids"].shape == (2, 2, 2, 2)
        for view, grid in zip(item["views"], item["grids"], strict=True):
            pixels = (view * std + mean) * 255
            seen = torch.nn.functional.avg_pool2d(pixels[None, :2], 32)[0].permute(1, 2, 0)
            torch.testing.assert_close(seen + 0.5, grid * 64, atol=1.6, rtol=0)
    assert torch.equal(
        pairs[Draw(0, 3)]["views"], ViewPairs([ramp], 0, 64, 32, (0.6, 1.4), 0.3)[Draw(0, 3)]["views"]
    )


def test_view_pairs__two_views_overlap_and_differ(ramp: Path) -> None:
    pairs = ViewPairs([ramp], 48, 32, 32, (0.5, 1.0), 0.5, cache_bytes=1 << 20)
    for number in range(20):
        item = pairs[Draw(0, number)]
        first, second = item["grids"][:, 0, 0]
        assert (first - second).abs().max() <= 1.0
        assert not torch.equal(item["views"][0], item["views"][1])
    assert pairs._image(ramp).shape == (48, 80, 3)


def test_view_pairs__an_image_smaller_than_a_view(tmp_path: Path) -> None:
    write_png(tmp_path / "small.png", np.full((10, 20, 3), 90, np.uint8))
    item = ViewPairs([tmp_path / "small.png"], 0, 32, 32, (0.6, 1.6), 0.3)[Draw(0, 0)]
    assert item["views"].shape == (2, 3, 32, 32) and torch.isfinite(item["views"]).all()
