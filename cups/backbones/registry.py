"""Frozen feature extractors behind one interface, chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cups.backbones.dino import DinoV2, DinoV3
from cups.backbones.names import CHOICES, DINOV2_NAMES, DINOV3_NAMES, NAMES, TEXTON, is_own, own_path
from cups.backbones.own import own_backbone
from cups.backbones.texton import IMAGENET_MEAN, IMAGENET_STD, Texton
from cups.errors import UserError
from cups.io.weights import how_to_get, stored_at, weight_files

Builder = Callable[[Path | None], nn.Module]


def _dino(name: str, network: type[DinoV2] | type[DinoV3]) -> Builder:
    def build(checkpoint: Path | None) -> nn.Module:
        return network(name.partition("_")[2], find_weights(name, checkpoint))

    return build


def _texton(checkpoint: Path | None) -> nn.Module:
    if checkpoint is not None:
        raise UserError(f"{checkpoint}: the texton backbone has no weights; leave `backbone_checkpoint` out")
    return Texton().eval()


NETWORKS: Mapping[str, type[DinoV2] | type[DinoV3]] = {
    **dict.fromkeys(DINOV2_NAMES, DinoV2),
    **dict.fromkeys(DINOV3_NAMES, DinoV3),
}
REGISTRY: Mapping[str, Builder] = {
    TEXTON: _texton,
    **{name: _dino(name, network) for name, network in NETWORKS.items()},
}


def find_weights(name: str, checkpoint: Path | None = None) -> Path:
    """Return the file of a backbone's weights: the one given, or where `refs/weights.yaml` has it found.

    Raises:
        UserError: none given, and none in the known places.
    """
    if checkpoint is not None:
        return stored_at(checkpoint)
    if is_own(name):
        return own_path(name)
    file = weight_files(name)[0]
    if found := file.find():
        return found
    raise UserError(
        f"{file.path}: no such file, the weights of `backbone` {name}; {file.looked_for()}; "
        f"get it ({how_to_get(name)}) or give `backbone_checkpoint`"
    )


def untrained_backbone(name: str) -> nn.Module:
    """Return a backbone with random weights, to be loaded or trained (`texton` has none).

    Raises:
        UserError: unknown name.
    """
    if name == TEXTON:
        return Texton()
    if is_own(name):
        return own_backbone(name, load=False)
    if name not in NETWORKS:
        raise UserError(f"backbone {name}: unknown; choose from {', '.join(NAMES)}")
    return NETWORKS[name](name.partition("_")[2], None)


def build_backbone(name: str, checkpoint: Path | str | None = None) -> nn.Module:
    """Return a frozen backbone with `.patch_size`, `.embed_dim` and `.local`.

    Its forward takes normalised images (B, 3, H, W) (see `normalize`) and returns (B, embed_dim, H/p, W/p).
    Without `checkpoint` the weights are read from where `refs/weights.yaml` places them; nothing is
    downloaded.
    `.local` says that features depend on the neighbourhood alone (no attention over the window).

    Raises:
        UserError: unknown name, missing or foreign weights.
    """
    path = None if checkpoint is None else Path(checkpoint)
    if is_own(name):
        return own_backbone(name, path)
    if name not in REGISTRY:
        raise UserError(f"`backbone` {name}: unknown; choose from {', '.join(CHOICES)}")
    return REGISTRY[name](path)


def normalize(images: np.ndarray | Tensor) -> Tensor:
    """Return images as backbones take them.

    images: (H, W, 3) uint8 RGB, or a batch (B, H, W, 3) uint8, or (B, 3, H, W) float in 0-1 ->
    (1 or B, 3, H, W) float32 with ImageNet's mean and spread removed, on the device of the input.
    """
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))[None]
    if images.dtype == torch.uint8:
        images = images.permute(0, 3, 1, 2).float() / 255
    mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (images - mean) / std


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[Any]:
    """Return the context in which a network runs with `precision`; nothing changes for float32."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)
