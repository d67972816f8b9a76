"""Backbones: registry, shapes, determinism, errors; texton tells textures apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cups.backbones import NAMES, build_backbone, normalize
from cups.errors import UserError
from refs.cause.models import dinov2_vit


def stripes(angle: float, period: float, level: float = 120.0) -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    wave = np.sin(2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle)))
    gray = (level + 40 * wave).clip(0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def test_texton__shape_and_determinism() -> None:
    backbone = build_backbone("texton")
    images = normalize(torch.rand(2, 3, 66, 130, generator=torch.Generator().manual_seed(0)))
    features = backbone(images)
    assert features.shape == (2, backbone.embed_dim, 66 // 4, 130 // 4)
    assert torch.isfinite(features).all() and torch.equal(features, backbone(images))


def test_texton__separates_stripes_of_equal_colour() -> None:
    """Direction and width of stripes matter; where they start does not."""
    backbone = build_backbone("texton")
    views = [stripes(0, 8), np.roll(stripes(0, 8), 3, axis=1), stripes(np.pi / 2, 8), stripes(0, 20)]
    centers = torch.cat([backbone(normalize(view))[..., 4:12, 4:12] for view in views]).mean((2, 3))
    same, turned, wider = (F.pairwise_distance(centers[:1], centers[i : i + 1]) for i in (1, 2, 3))
    assert same * 5 < turned and same * 5 < wider


def test_texton__is_local() -> None:
    """A change in one corner does not reach the opposite one."""
    backbone = build_backbone("texton")
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    other = image.clone()
    other[..., :32, :32] = 0
    torch.testing.assert_close(
        backbone(normalize(image))[..., 32:, 32:], backbone(normalize(other))[..., 32:, 32:]
    )


def test_dinov2__reads_the_official_names(tmp_path: Path) -> None:
    file = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(dinov2_vit("vits14").state_dict(), file)
    backbone = build_backbone("dinov2_vits14", file)
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 28, 42)).shape == (1, 384, 2, 3)
    with pytest.raises(UserError, match="weights of another model"):
        build_backbone("dinov2_vitb14", file)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "texton"])
def test_build_backbone__says_what_is_missing(name: str) -> None:
    with pytest.raises(UserError, match=name):
        build_backbone(name)


def test_build_backbone__bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown"):
        build_backbone("resnet")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"broken\.pth"):
        build_backbone("dinov2_vits14", broken)
    with pytest.raises(UserError, match="no such file"):
        build_backbone("dinov2_vits14", tmp_path / "none.pth")
