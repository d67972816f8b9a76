"""The depth network on disk: `encoder.pth`, `depth.pth` and the settings that rebuild it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cups.errors import UserError
from cups.ops.png import atomic_write
from refs.spidepth import SQLDepth

ENCODER, DEPTH, POSE, SETTINGS = "encoder.pth", "depth.pth", "pose.pth", "settings.json"
FEED_SIZE = ("height", "width")
NOT_TENSORS = frozenset((*FEED_SIZE, "use_stereo"))
"""What the published `encoder.pth` holds beside tensors."""
STEM = "encoder.stem_0.weight"
WIDTH_TO_BACKBONE: Mapping[int, str] = {
    40: "convnextv2_atto",
    48: "convnextv2_femto",
    64: "convnextv2_pico",
    80: "convnextv2_nano",
    96: "convnextv2_tiny",
    128: "convnextv2_base",
    192: "convnextv2_large",
    352: "convnextv2_huge",
}
"""Channels of the stem: what tells ConvNeXt V2 models apart (Woo et al., CVPR 2023, appendix)."""


@dataclass(frozen=True)
class DepthSettings:
    """What rebuilds a depth network and feeds it; the defaults are the published Cityscapes model's.

    `height` x `width` is the size images are fed at; `crop_bottom` (0-1) the part of their height that was
    cut off in training (the bonnet of the car).
    """

    backbone: str = "convnextv2_huge"
    model_dim: int = 32
    patch_size: int = 32
    query_nums: int = 64
    dim_out: int = 64
    dec_channels: tuple[int, ...] = (1024, 512, 256, 128)
    feedforward: int = 1024
    min_depth: float = 0.001
    max_depth: float = 80.0
    height: int = 320
    width: int = 1024
    crop_bottom: float = 0.25


def build_depth_network(settings: DepthSettings) -> SQLDepth:
    """Build the network, with random weights.

    Raises:
        UserError: a backbone that timm lacks or that does not fit the decoder; too few tokens.
    """
    tokens = (settings.height // 2 // settings.patch_size) * (settings.width // 2 // settings.patch_size)
    if tokens < settings.query_nums:
        raise UserError(
            f"--height {settings.height} --width {settings.width}: patches of {settings.patch_size} give "
            f"{tokens} tokens, fewer than --query_nums {settings.query_nums}; feed larger images"
        )
    names = {field.name for field in fields(DepthSettings)} - {*FEED_SIZE, "crop_bottom"}
    try:
        return SQLDepth(**{name: getattr(settings, name) for name in names})
    except (RuntimeError, ValueError) as error:  # timm's RuntimeError: unknown model
        raise UserError(f"--backbone {settings.backbone}: {error}; choose another") from None


def save_depth_network(
    folder: Path, network: SQLDepth, pose: nn.Module | None, settings: DepthSettings
) -> None:
    """Write the published files' form, and `settings.json`."""
    feed = {"height": settings.height, "width": settings.width, "use_stereo": False}
    parts: dict[str, dict[str, Any]] = {
        ENCODER: {**network.encoder.state_dict(), **feed},
        DEPTH: network.depth_decoder.state_dict(),
    }
    if pose is not None:
        parts[POSE] = pose.state_dict()
    for name, state in parts.items():
        atomic_write(folder / name, lambda path, state=state: torch.save(state, path))
    text = json.dumps(asdict(settings), indent=2) + "\n"
    atomic_write(folder / SETTINGS, lambda path: path.write_text(text))


def load_depth_network(folder: Path, **overrides: Any) -> tuple[SQLDepth, DepthSettings]:
    """Rebuild a network from a folder with `encoder.pth` and `depth.pth`.

    Settings come from `settings.json`; without one (published weights) they are read off the tensors' shapes.

    Args:
        overrides: settings that replace those of the folder, None for "as there".

    Raises:
        UserError: missing or foreign files, settings that do not fit them.
    """
    encoder, depth = _read(folder / ENCODER), _read(folder / DEPTH)
    settings = (
        _read_settings(folder / SETTINGS) if (folder / SETTINGS).is_file() else infer(encoder, depth, folder)
    )
    settings = replace(settings, **{key: value for key, value in overrides.items() if value is not None})
    network = build_depth_network(settings)
    _load(network.encoder, {k: v for k, v in encoder.items() if k not in NOT_TENSORS}, folder / ENCODER)
    _load(network.depth_decoder, depth, folder / DEPTH)
    return network.eval(), settings


def infer(encoder: Mapping[str, Any], depth: Mapping[str, Tensor], folder: Path) -> DepthSettings:
    """Read settings off the shapes of published weights; what shapes do not tell keeps its default.

    Raises:
        UserError: weights of another architecture.
    """
    try:
        blocks = sorted(
            key for key in encoder if re.fullmatch(r"decoder\.blocks\.\d+\.conv2\.conv\.weight", key)
        )
        model_dim, _, patch_size, _ = depth["embedding_convPxP.weight"].shape
        dim_out, query_nums = depth["convert_to_prob.0.weight"].shape[:2]
        return DepthSettings(
            backbone=WIDTH_TO_BACKBONE[len(encoder[STEM])],
            model_dim=model_dim,
            patch_size=patch_size,
            query_nums=query_nums,
            dim_out=dim_out,
            dec_channels=tuple(len(encoder[key]) for key in blocks),
            feedforward=len(depth["transformer_encoder.layers.0.linear1.weight"]),
            height=int(encoder.get("height", DepthSettings.height)),
            width=int(encoder.get("width", DepthSettings.width)),
        )
    except (KeyError, AttributeError, TypeError, ValueError):
        raise UserError(
            f"{folder}: weights of another architecture and no {SETTINGS}; give the folder of the published "
            "ConvNeXt V2 weights, or one that train_spidepth.py wrote"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; fetch it with scripts/download_checkpoints.sh, train it with "
            "train_spidepth.py, or use --source disparity"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a foreign file
        raise UserError(f"{path}: not a file of tensors ({type(error).__name__}); fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no state dict; give the published file")
    return content


def _read_settings(path: Path) -> DepthSettings:
    try:
        content = json.loads(path.read_text())
        return DepthSettings(**{**content, "dec_channels": tuple(content["dec_channels"])})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no settings of a depth network ({error}); train it again") from None


def _load(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: weights of another network ({detail}); check the folder's settings"
        ) from None
