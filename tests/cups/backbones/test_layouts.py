"""DINOv2 with registers and DINOv3 ViT-L: Meta's, timm's and Transformers' files give the same features."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cups.backbones import build_backbone, dino, untrained_backbone
from cups.backbones.layouts import official_to_timm, transformers_to_official
from cups.errors import UserError
from refs.cause.models import dinov2_vit
from refs.timm_models import create_model

VITL = "vit_large_patch16_dinov3"
IMAGES = torch.randn(2, 3, 42, 70, generator=torch.Generator().manual_seed(5))


def filled(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}


def official_dinov2(architecture: str) -> dict[str, Tensor]:
    """Random weights under the names, and with the shapes, of Meta's files."""
    return filled({name: tensor.shape for name, tensor in dinov2_vit(architecture).state_dict().items()})


@pytest.fixture(scope="module")
def registers() -> dict[str, Tensor]:
    return official_dinov2("vits14_reg")


def features(name: str, file: Path, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return build_backbone(name, file)(images)


def test_dinov2_with_registers__has_the_published_shapes(registers: dict[str, Tensor]) -> None:
    """Of dinov2_vits14_reg4_pretrain.pth: positions of the class token and 37 x 37 patches alone."""
    assert registers["register_tokens"].shape == (1, 4, 384)
    assert registers["pos_embed"].shape == (1, 1370, 384) and registers["mask_token"].shape == (1, 384)


def test_dinov2_with_registers__as_timm(registers: dict[str, Tensor], tmp_path: Path) -> None:
    """timm holds the same model under its own names: the class token takes its position in."""
    network = create_model(
        "vit_small_patch14_reg4_dinov2", pretrained=False, num_classes=0, dynamic_img_size=True
    ).eval()
    state = {name: tensor for name, tensor in registers.items() if name != "mask_token"}
    state["reg_token"] = state.pop("register_tokens")
    state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
    state["pos_embed"] = state["pos_embed"][:, 1:]
    network.load_state_dict(state)
    with torch.no_grad():
        expected = network.forward_features(IMAGES)[:, 5:].transpose(1, 2).unflatten(2, (3, 5))
    torch.save(registers, tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    save_file(state, tmp_path / "timm.safetensors")
    ours = features("dinov2_vits14_reg", tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    again = features("dinov2_vits14_reg", tmp_path / "timm.safetensors")
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-5)


def test_dinov2__registers_must_be_wanted(registers: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(registers, tmp_path / "reg.pth")
    with pytest.raises(UserError, match=r"weights of another network.*register_tokens"):
        build_backbone("dinov2_vits14", tmp_path / "reg.pth")


@pytest.mark.parametrize("architecture", ["vits14", "vits14_reg"])
def test_dinov2__files_of_transformers(architecture: str, tmp_path: Path) -> None:
    state = official_dinov2(architecture)
    torch.save(state, tmp_path / "meta.pth")
    save_file(as_transformers(state, "encoder.layer"), tmp_path / "model.safetensors")
    name = f"dinov2_{architecture}"
    assert torch.equal(features(name, tmp_path / "meta.pth"), features(name, tmp_path / "model.safetensors"))


def as_transformers(state: dict[str, Tensor], layer: str) -> dict[str, Tensor]:
    """Name tensors as Transformers' `Dinov2Model` ("encoder.layer") or `DINOv3ViTModel` ("layer") does."""
    third = layer == "layer"
    words = ["q_proj", "k_proj", "v_proj"] if third else [f"attention.{w}" for w in ("query", "key", "value")]
    embeddings = {"cls_token", "mask_token", "register_tokens", "storage_tokens", "pos_embed"}
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in embeddings:
            word = {"storage_tokens": "register_tokens", "pos_embed": "position_embeddings"}.get(name, name)
            named[f"embeddings.{word}"] = tensor[None].clone() if word == "mask_token" else tensor
        elif name.startswith("patch_embed"):
            word = "patch_embeddings" if third else "patch_embeddings.projection"
            named[name.replace("patch_embed.proj", f"embeddings.{word}")] = tensor
        elif name.startswith("norm"):
            named[name if third else name.replace("norm", "layernorm")] = tensor
        elif "attn.qkv." in name and not name.endswith("bias_mask"):
            for word, part in zip(words, tensor.chunk(3), strict=True):
                if not (third and word == "k_proj" and name.endswith("bias")):
                    key = name.replace("attn.qkv", f"attention.{word}").replace("blocks", layer)
                    named[key] = part.clone()
        elif name.startswith("blocks"):
            key = name.replace("blocks", layer).replace("ls1.gamma", "layer_scale1.lambda1")
            key = key.replace("ls2.gamma", "layer_scale2.lambda1")
            key = key.replace("attn.proj", "attention.o_proj" if third else "attention.output.dense")
            if third:
                key = key.replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj")
            named[key] = tensor
    return named


def official_dinov3(name: str) -> dict[str, Tensor]:
    """Random weights in Meta's layout of a DINOv3 model of timm."""
    network = create_model(name, pretrained=False, num_classes=0, qkv_bias=True)
    state = filled({name: tensor.shape for name, tensor in network.state_dict().items()})
    official: dict[str, Tensor] = {"mask_token": torch.zeros(1, network.embed_dim)}
    for key, tensor in state.items():
        key = key.replace("reg_token", "storage_tokens")
        if key.endswith("q_bias"):
            value = state[key.replace("q_bias", "v_bias")]
            full = torch.cat((tensor, torch.zeros_like(tensor), value))
            official[key.replace("q_bias", "qkv.bias")] = full
            mask = torch.ones_like(full)
            mask[len(tensor) : 2 * len(tensor)] = 0
            official[key.replace("q_bias", "qkv.bias_mask")] = mask
        elif not key.endswith(("v_bias", "k_bias")):
            official[key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = tensor
    return official


def test_dinov3_vitl16__every_layout_names_all_parts() -> None:
    """24 blocks of 1024 channels, as the backbone takes them; shapes alone, for the values take 1.2 GB."""
    with torch.device("meta"):
        official = official_dinov3(VITL)
        wanted = untrained_backbone("dinov3_vitl16").network.state_dict()
    assert official["storage_tokens"].shape == (1, 4, 1024) and "blocks.23.ls2.gamma" in official
    for state in (official, transformers_to_official(as_transformers(official, "layer"))):
        timm = official_to_timm(state)
        assert {name: tensor.shape for name, tensor in timm.items()} == {
            name: tensor.shape for name, tensor in wanted.items()
        }


def test_dinov3_vitl16__as_timm_from_every_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta's, timm's and Transformers' files give timm's features; of the first two blocks."""
    for module in (dino, sys.modules[__name__]):
        monkeypatch.setattr(module, "create_model", partial(create_model, depth=2))
    official = official_dinov3(VITL)
    images = IMAGES[:1, :, :32, :48]
    network = create_model(VITL, pretrained=False, num_classes=0, qkv_bias=True, depth=2).eval()
    timm = official_to_timm(official)
    network.load_state_dict(timm)
    with torch.no_grad():
        expected = network.forward_features(images)[:, 5:].transpose(1, 2).unflatten(2, (2, 3))
    layouts = {
        "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth": official,
        "timm.safetensors": timm,
        "model.safetensors": as_transformers(official, "layer"),
    }
    for name, state in layouts.items():
        file = tmp_path / name
        (torch.save if file.suffix == ".pth" else save_file)(state, file)
        assert torch.equal(features("dinov3_vitl16", file, images), expected), name


def test_transformers_to_official__a_missing_part_stays_missing(tmp_path: Path) -> None:
    state = as_transformers(official_dinov2("vits14"), "encoder.layer")
    del state["encoder.layer.3.attention.attention.key.bias"]
    assert "blocks.3.attn.qkv.bias" not in transformers_to_official(state)
    del state["encoder.layer.3.attention.attention.key.weight"]
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(UserError, match=r"broken\.pth: weights of another network.*blocks\.3\.attn\.qkv\."):
        build_backbone("dinov2_vits14", tmp_path / "broken.pth")
