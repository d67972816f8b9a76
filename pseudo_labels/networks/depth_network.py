"""The depth network on disk: `encoder.pth`, `depth.pth` and the settings that rebuild it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cups.errors import UserError
from cups.io.checkpoint import load_state, load_tensors, write_file
from cups.io.files import read_json, write_json
from cups.io.weights import weight_files
from pseudo_labels.settings.depth import FEED_SIZE, DepthSettings
from refs.spidepth import SQLDepth
from refs.spidepth.networks.depth_decoder import HEADS, MAX_TOKENS
from refs.timm_models import PYRAMIDS

ENCODER, DEPTH, POSE, SETTINGS = "encoder.pth", "depth.pth", "pose.pth", "settings.json"
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
HOW_TO_GET = (
    "fetch it with scripts/download_checkpoints.sh, train it with train_spidepth.py, "
    "or use `source` disparity"
)
CHOICES = "convnextv2_atto to _huge, convnext_atto to _xlarge, or a ResNet (refs/timm_models.py)"
HOW_TO_FIT = "check the folder's settings"


def build_depth_network(settings: DepthSettings) -> SQLDepth:
    """Build the network, with random weights.

    Raises:
        UserError: an unknown backbone or one that does not fit the decoder, too few or too many tokens.
    """
    _check_tokens(settings)
    names = {field.name for field in fields(DepthSettings)} - {*FEED_SIZE, "crop_bottom"}
    try:
        return SQLDepth(**{name: getattr(settings, name) for name in names})
    except (RuntimeError, ValueError) as error:  # timm's RuntimeError: a version without that model
        raise UserError(f"`backbone` {settings.backbone}: {error}; choose {CHOICES}") from None


def _check_tokens(settings: DepthSettings) -> None:
    if settings.model_dim % HEADS:
        raise UserError(f"`model_dim` {settings.model_dim}: must be a multiple of {HEADS}")
    height, width, patch = settings.height, settings.width, settings.patch_size
    tokens = (height // 2 // patch) * (width // 2 // patch)
    given = f"`height` {height} `width` {width}: patches of {patch} give {tokens} tokens"
    if tokens < settings.query_nums:
        raise UserError(f"{given}, fewer than `query_nums` {settings.query_nums}; feed larger images")
    if tokens > MAX_TOKENS:
        raise UserError(f"{given}, and there are {MAX_TOKENS} positions; feed smaller images")


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
    write_json(folder / SETTINGS, asdict(settings))


def load_depth_network(folder: Path, **overrides: Any) -> tuple[SQLDepth, DepthSettings]:
    """Rebuild a network from a folder with `encoder.pth` and `depth.pth`, for inference.

    Settings come from `settings.json`; without one (published weights) they are read off the tensors' shapes.
    What shapes do not tell (range of depth, cut-off rows) is then the published model's.

    Args:
        overrides: settings that replace those of the folder, None for "as there".

    Raises:
        UserError: missing or foreign files, settings that do not fit them.
    """
    encoder = load_tensors(folder / ENCODER, HOW_TO_GET, beside=NOT_TENSORS)
    depth = load_tensors(folder / DEPTH, HOW_TO_GET)
    settings = stored_settings(folder) or infer(encoder, depth, folder)
    settings = replace(settings, **{key: value for key, value in overrides.items() if value is not None})
    # Without storage of its own: the huge model would spend a minute on random weights and twice the memory.
    with torch.device("meta"):
        network = build_depth_network(settings)
    tensors = {name: value for name, value in encoder.items() if name not in NOT_TENSORS}
    load_state(network.encoder, tensors, folder / ENCODER, HOW_TO_FIT, assign=True)
    load_state(network.depth_decoder, depth, folder / DEPTH, HOW_TO_FIT, assign=True)
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


def stored_settings(folder: Path) -> DepthSettings | None:
    """Return the settings of a network trained here; None for published weights, whose shapes tell them.

    Raises:
        UserError: a file that is not of a depth network.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return None
    content = read_json(path, "train it again")
    if content.get("backbone") not in PYRAMIDS:
        told = " ".join(str(content.get("backbone"))[:80].split())
        raise UserError(f"{path}: names the backbone {told}, which is unknown; train it again with {CHOICES}")
    try:
        return DepthSettings(**{**content, "dec_channels": tuple(content["dec_channels"])})
    except (KeyError, TypeError, UserError) as error:
        raise UserError(f"{path}: no settings of a depth network ({error}); train it again") from None
