"""Simple feature pyramid: geometry, freezing, recomputation. Random weights throughout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cups.model
from cups.backbones import untrained_backbone
from cups.errors import UserError
from cups.model import (
    panoptic_cascade_mask_r_cnn_from_checkpoint,
    panoptic_cascade_mask_r_cnn_vitb,
    to_detectron2,
)
from cups.model.backbone_dinov2_vit import SimpleFeaturePyramid, resample
from cups.structures import Sample
from refs.cause.models.dinov2 import DinoVisionTransformer

THINGS, STUFFS = 3, 4
SMALL = {"model_config": "Panoptic-Cascade-Mask-R-CNN-Small.yaml", "backbone": "dinov2_vits14"}


def _small_vit(depth: int = 2, dim: int = 32) -> Any:
    """Return `dinov2_vits14` with fewer and narrower blocks."""
    torch.manual_seed(0)
    extractor: Any = untrained_backbone("dinov2_vits14")
    extractor.network = DinoVisionTransformer(dim, depth, heads=2)
    extractor.embed_dim = dim
    for parameter in extractor.network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return extractor


class _Positions(nn.Module):
    """Features that are the pixel coordinates (y, x) of each patch's centre."""

    embed_dim = 2

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 2, H/p, W/p)."""
        rows, columns = (
            (torch.arange(n // self.patch_size) + 0.5) * self.patch_size for n in images.shape[-2:]
        )
        grid = torch.meshgrid(rows, columns, indexing="ij")
        return torch.stack(grid).expand(len(images), -1, -1, -1)


@pytest.mark.parametrize("patch", [14, 16])
def test_resample__cells_of_stride_16_see_their_own_pixels(patch: int) -> None:
    pyramid = SimpleFeaturePyramid(_Positions(patch), out_channels=4)
    features = pyramid._on_stride(torch.zeros(1, 3, 64, 96))
    assert features.shape == (1, 2, 4, 6)
    # The outermost centres may lie outside those of the patches: bilinear sampling repeats the border there.
    rows, columns = (torch.arange(n) * 16 + 8.0 for n in (4, 6))
    assert torch.allclose(features[0, 0, 1:-1, 0], rows[1:-1], atol=1e-4)
    assert torch.allclose(features[0, 1, 0, 1:-1], columns[1:-1], atol=1e-4)


def test_resample__same_grid_is_untouched() -> None:
    features = torch.rand(1, 3, 2, 2)
    assert resample(features, 16, 16, (32, 32)) is features


@pytest.mark.parametrize("name", ["dinov2_vits14", "texton"])
def test_pyramid__levels_have_the_strides_they_name(name: str) -> None:
    extractor = _small_vit() if name != "texton" else untrained_backbone(name)
    pyramid = SimpleFeaturePyramid(extractor, out_channels=8).eval()
    shapes = {level: tuple(x.shape) for level, x in pyramid(torch.randn(2, 3, 64, 192)).items()}
    assert shapes == {f"p{i}": (2, 8, 64 // 2**i, 192 // 2**i) for i in range(2, 7)}
    assert {level: spec.stride for level, spec in pyramid.output_shape().items()} == {
        f"p{i}": 2**i for i in range(2, 7)
    }


def test_pyramid__frozen_extractor_stays_in_evaluation_and_gets_no_gradient() -> None:
    pyramid = SimpleFeaturePyramid(_small_vit(), out_channels=8, frozen=True).train()
    assert pyramid.training and not pyramid.extractor.training
    sum(level.mean() for level in pyramid(torch.randn(1, 3, 32, 32)).values()).backward()
    assert all(parameter.grad is None for parameter in pyramid.extractor.parameters())
    assert all(parameter.grad is not None for parameter in pyramid.levels.parameters())


def _gradients(checkpointing: bool) -> list[Tensor]:
    extractor = _small_vit()
    if checkpointing:
        extractor.set_grad_checkpointing()
    torch.manual_seed(1)
    pyramid = SimpleFeaturePyramid(extractor, out_channels=8, frozen=False).train()
    image = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(2))
    sum(level.square().mean() for level in pyramid(image).values()).backward()
    return [p.grad for name, p in pyramid.named_parameters() if not name.endswith("mask_token")]


def test_pyramid__recomputed_blocks_have_the_same_gradients() -> None:
    kept, recomputed = _gradients(False), _gradients(True)
    assert all(gradient is not None for gradient in kept)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(kept, recomputed, strict=True))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return panoptic_cascade_mask_r_cnn_vitb(THINGS, STUFFS + 1, **SMALL)


def test_network__odd_sizes_in_image_size_out(network: nn.Module) -> None:
    outputs = network.eval()([{"image": torch.rand(3, 75, 99), "height": 150, "width": 198}])[0]
    assert outputs["sem_seg"].shape == (STUFFS + 1, 150, 198)
    assert outputs["panoptic_seg"][0].shape == (150, 198)


def test_network__a_step_changes_pyramid_and_heads_alone(network: nn.Module, sample: Sample) -> None:
    network.train()
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    sum(network([to_detectron2(sample)]).values()).backward()
    optimizer.step()
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert not any(name.startswith("backbone.extractor.") for name in changed)
    assert any(name.startswith("backbone.levels.") for name in changed)
    assert any(name.startswith("sem_seg_head.") for name in changed)


def test_network__official_names_load_and_a_checkpoint_reopens(network: nn.Module, tmp_path: Path) -> None:
    official = {
        name: torch.randn_like(value) * 0.02
        for name, value in network.backbone.extractor.network.state_dict().items()
    }
    torch.save(official, tmp_path / "dinov2_vits14_pretrain.pth")
    torch.manual_seed(0)
    loaded = panoptic_cascade_mask_r_cnn_vitb(
        THINGS, STUFFS + 1, backbone_checkpoint=tmp_path / "dinov2_vits14_pretrain.pth", **SMALL
    )
    assert torch.equal(loaded.backbone.extractor.network.cls_token, official["cls_token"])
    settings = {
        "model_config": SMALL["model_config"],
        "model_overrides": list(cups.model.vit_overrides("dinov2_vits14", True, False)),
    }
    torch.save(
        {"state_dict": loaded.state_dict(), "hyper_parameters": {"model": settings}}, tmp_path / "run.ckpt"
    )
    reopened, things, stuffs = panoptic_cascade_mask_r_cnn_from_checkpoint(tmp_path / "run.ckpt")
    assert (things, stuffs) == (THINGS, STUFFS)
    image = [{"image": torch.rand(3, 64, 96)}]
    assert torch.equal(reopened(image)[0]["sem_seg"], loaded.eval()(image)[0]["sem_seg"])


def test_network__weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"resnet\.pth: weights of another network"):
        panoptic_cascade_mask_r_cnn_vitb(
            THINGS, STUFFS + 1, backbone_checkpoint=tmp_path / "resnet.pth", **SMALL
        )


def test_untrained_backbone__unknown_name() -> None:
    with pytest.raises(UserError, match=r"backbone vgg16: unknown; choose from texton"):
        untrained_backbone("vgg16")
