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
from cups.io.checkpoint import read_file, write_file
from cups.io.files import atomic_write
from cups.io.weights import weight_files
from refs.spidepth import SQLDepth
from refs.spidepth.networks.depth_decoder import HEADS, MAX_TOKENS

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
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "spidepth_cityscapes": {},
    "spidepth_kitti": {"crop_bottom": 0.0},
}
"""Published weights (entries of `refs/weights.yaml`), and where their settings are not the defaults."""
COUNTS = ("model_dim", "patch_size", "query_nums", "dim_out", "feedforward", *FEED_SIZE)


@dataclass(frozen=True)
class DepthSettings:
    """What rebuilds a depth network and feeds it; the defaults are the published Cityscapes model's.

    `height` x `width` is the size images are fed at; `crop_bottom` (0-1) the part of their height that was
    cut off in training (the bonnet of the car).

    Raises:
        UserError: impossible values, too few or too many tokens.
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

    def __post_init__(self) -> None:
        for name in COUNTS:
            _require(_is_count(getattr(self, name)), name, getattr(self, name), "must be at least 1")
        four = len(self.dec_channels) == 4 and all(map(_is_count, self.dec_channels))
        _require(four, "dec_channels", self.dec_channels, "must be four numbers of at least 1")
        _require(self.model_dim % HEADS == 0, "model_dim", self.model_dim, f"must be a multiple of {HEADS}")
        _require(0 <= self.crop_bottom < 1, "crop_bottom", self.crop_bottom, "must be at least 0 and below 1")
        above = 0 < self.min_depth < self.max_depth
        _require(above, "max_depth", self.max_depth, f"must lie above --min_depth {self.min_depth} > 0")
        most = float(torch.finfo(torch.float16).max)
        _require(self.max_depth <= most, "max_depth", self.max_depth, f"must be at most {most:.0f} (float16)")
        tokens = (self.height // 2 // self.patch_size) * (self.width // 2 // self.patch_size)
        given = (
            f"--height {self.height} --width {self.width}: patches of {self.patch_size} give {tokens} tokens"
        )
        if tokens < self.query_nums:
            raise UserError(f"{given}, fewer than --query_nums {self.query_nums}; feed larger images")
        if tokens > MAX_TOKENS:
            raise UserError(f"{given}, and there are {MAX_TOKENS} positions; feed smaller images")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def _require(fits: bool, name: str, value: Any, rule: str) -> None:
    if not fits:
        raise UserError(f"--{name} {value}: {rule}")


def build_depth_network(settings: DepthSettings) -> SQLDepth:
    """Build the network, with random weights.

    Raises:
        UserError: a backbone that timm lacks or that does not fit the decoder.
    """
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
        write_file(folder / name, state)
    text = json.dumps(asdict(settings), indent=2) + "\n"
    atomic_write(folder / SETTINGS, lambda path: path.write_text(text))


def load_depth_network(folder: Path, **overrides: Any) -> tuple[SQLDepth, DepthSettings]:
    """Rebuild a network from a folder with `encoder.pth` and `depth.pth`, for inference.

    Settings come from `settings.json`; without one (published weights) they are read off the tensors' shapes.
    What shapes do not tell (range of depth, cut-off rows) is then the published model's.

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
    # Without storage of its own: the huge model would spend a minute on random weights and twice the memory.
    with torch.device("meta"):
        network = build_depth_network(settings)
    _load(network.encoder, {k: v for k, v in encoder.items() if k not in NOT_TENSORS}, folder / ENCODER)
    _load(network.depth_decoder, depth, folder / DEPTH)
    return network.float().eval(), settings


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
            **PUBLISHED.get(published_name(folder) or "", {}),
        )
    except (KeyError, AttributeError, TypeError, ValueError):
        raise UserError(
            f"{folder}: weights of another architecture and no {SETTINGS}; give the folder of the published "
            "ConvNeXt V2 weights, or one that train_spidepth.py wrote"
        ) from None


def published_name(folder: Path) -> str | None:
    """Return the name in `refs/weights.yaml` of the weights whose place is `folder`."""
    places = {weight_files(name)[0].path.parent.resolve(): name for name in PUBLISHED}
    return places.get(folder.resolve())


def _read(path: Path) -> dict[str, Any]:
    fix = (
        "fetch it with scripts/download_checkpoints.sh, train it with train_spidepth.py, "
        "or use --source disparity"
    )
    content = read_file(path, fix)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no state dict; give the published file")
    return content


def _read_settings(path: Path) -> DepthSettings:
    try:
        content = json.loads(path.read_text())
        return DepthSettings(**{**content, "dec_channels": tuple(content["dec_channels"])})
    except (json.JSONDecodeError, KeyError, TypeError, UserError) as error:
        raise UserError(f"{path}: no settings of a depth network ({error}); train it again") from None


def _load(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(dict(state), strict=True, assign=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: weights of another network ({detail}); check the folder's settings"
        ) from None
