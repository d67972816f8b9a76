"""Backbones: registry, shapes, determinism, errors; texton tells textures apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cups.backbones import NAMES, DinoV3, build_backbone, normalize, official_to_timm
from cups.errors import UserError
from cups.io.weights import weight_files
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
    with pytest.raises(UserError, match="weights of another network"):
        build_backbone("dinov2_vitb14", file)


def test_dinov2__vitl14_has_the_official_shapes() -> None:
    with torch.device("meta"):
        state = dinov2_vit("vitl14").state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 304_368_640
    assert state["blocks.23.mlp.fc2.weight"].shape == (1024, 4096)
    assert state["pos_embed"].shape == (1, 1370, 1024)


def test_dinov2__vitb14_has_the_official_names(parity: Path) -> None:
    with torch.device("meta"):
        state = dinov2_vit("vitb14").state_dict()
    expected = json.loads((parity / "dinov2_vitb14.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in state.items()} == expected


@pytest.fixture(scope="module")
def official_dinov3() -> dict[str, torch.Tensor]:
    """A random DINOv3 ViT-S/16 under the official names."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for name, tensor in DinoV3("vits16", None).network.state_dict().items():
        values = torch.randn(tensor.shape, generator=generator) * (0.04 if tensor.ndim > 1 else 0.3)
        name = name.replace("reg_token", "storage_tokens")
        state[name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = values
    for block in range(12):
        query, value = (state.pop(f"blocks.{block}.attn.{kind}_bias") for kind in "qv")
        key = torch.full_like(query, 7.0)
        state[f"blocks.{block}.attn.qkv.bias"] = torch.cat((query, key, value))
        state[f"blocks.{block}.attn.qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(384)
    state["mask_token"] = torch.zeros(1, 384)
    state["rope_embed.periods"] = 100.0 ** (torch.arange(16) / 16)
    return state


def slow_dinov3(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """DINOv3 written out from the paper on the official names: (1, 3, H, W) -> (1, 384, H/16, W/16)."""
    patches = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    height, width = patches.shape[-2:]
    x = torch.cat((state["cls_token"], state["storage_tokens"], patches.flatten(2).transpose(1, 2)), dim=1)
    rows, columns = ((torch.arange(n) + 0.5) / n * 2 - 1 for n in (height, width))
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).view(-1, 2, 1)
    angles = (2 * torch.pi * places / state["rope_embed.periods"]).flatten(1).repeat(1, 2)

    def rotate(heads: torch.Tensor) -> torch.Tensor:
        spatial = heads[:, :, 5:]
        left, right = spatial.chunk(2, dim=-1)
        turned = spatial * angles.cos() + torch.cat((-right, left), dim=-1) * angles.sin()
        return torch.cat((heads[:, :, :5], turned), dim=2)

    for block in range(12):
        w = {k.split(".", 2)[2]: v for k, v in state.items() if k.startswith(f"blocks.{block}.")}
        y = F.layer_norm(x, (384,), w["norm1.weight"], w["norm1.bias"], 1e-5)
        y = F.linear(y, w["attn.qkv.weight"], w["attn.qkv.bias"] * w["attn.qkv.bias_mask"])
        query, key, value = y.view(1, -1, 3, 6, 64).permute(2, 0, 3, 1, 4)
        y = ((rotate(query) @ rotate(key).transpose(2, 3) / 8).softmax(-1) @ value).transpose(1, 2)
        x = x + w["ls1.gamma"] * F.linear(y.flatten(2), w["attn.proj.weight"], w["attn.proj.bias"])
        y = F.layer_norm(x, (384,), w["norm2.weight"], w["norm2.bias"], 1e-5)
        y = F.gelu(F.linear(y, w["mlp.fc1.weight"], w["mlp.fc1.bias"]))
        x = x + w["ls2.gamma"] * F.linear(y, w["mlp.fc2.weight"], w["mlp.fc2.bias"])
    x = F.layer_norm(x, (384,), state["norm.weight"], state["norm.bias"], 1e-5)
    return x[:, 5:].transpose(1, 2).unflatten(2, (height, width))


def test_dinov3__official_and_timm_names_give_the_features_of_the_paper(
    official_dinov3: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    images = torch.randn(1, 3, 48, 80, generator=torch.Generator().manual_seed(1))
    torch.save(official_dinov3, tmp_path / "official.pth")
    torch.save(official_to_timm(official_dinov3), tmp_path / "timm.pth")
    official, renamed = (
        build_backbone("dinov3_vits16", tmp_path / f"{name}.pth") for name in ("official", "timm")
    )
    assert (official.patch_size, official.embed_dim) == (16, 384)
    with torch.no_grad():
        features = official(images)
        assert torch.equal(features, renamed(images))
    torch.testing.assert_close(features, slow_dinov3(official_dinov3, images), rtol=1e-3, atol=1e-3)


def test_dinov3__files_of_timm_without_biases(
    official_dinov3: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    state = official_to_timm(official_dinov3)
    bare = {name: tensor for name, tensor in state.items() if not name.endswith("_bias")}
    torch.save(bare, tmp_path / "bare.pth")
    network = build_backbone("dinov3_vits16", tmp_path / "bare.pth").network
    assert not network.state_dict()["blocks.3.attn.q_bias"].any()  # type: ignore[operator,union-attr]


def test_dinov3__bad_files(official_dinov3: dict[str, torch.Tensor], tmp_path: Path) -> None:
    broken = dict(official_dinov3)
    del broken["blocks.3.ls1.gamma"]
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(UserError, match=r"broken\.pth: weights of another network.*blocks\.3\.gamma_1"):
        build_backbone("dinov3_vits16", tmp_path / "broken.pth")
    torch.save(official_dinov3, tmp_path / "small.pth")
    with pytest.raises(UserError, match="weights of another network"):
        build_backbone("dinov3_vitb16", tmp_path / "small.pth")
    with pytest.raises(ValueError, match="multiples of 16"):
        DinoV3("vits16", None)(torch.zeros(1, 3, 28, 32))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "texton"])
def test_build_backbone__says_what_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = weight_files(name, tmp_path)
    monkeypatch.setattr("cups.backbones.registry.weight_files", lambda _: files)
    with pytest.raises(UserError, match=f"{files[0].path.name}.*`backbone` {name}.*`backbone_checkpoint`"):
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
