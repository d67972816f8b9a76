"""Frozen feature extractors behind one interface, chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cups.errors import UserError
from cups.texton import IMAGENET_MEAN, IMAGENET_STD, Texton
from refs.cause.models.dinov2 import PATCH, dinov2_vit


class DinoV2(nn.Module):
    """DINOv2 patch tokens as a map; `network` has the official checkpoint's names."""

    local = False
    patch_size = PATCH

    def __init__(self, architecture: str, checkpoint: Path | None) -> None:
        super().__init__()
        self.network = dinov2_vit(architecture)
        self.embed_dim = self.network.dim
        if checkpoint is not None:
            load_strict(self.network, checkpoint)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W), sides multiples of 14 -> (B, embed_dim, H/14, W/14)."""
        height, width = images.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"image sides must be multiples of {PATCH}, not {height} x {width}")
        _, tokens = self.network(images)
        return tokens.transpose(1, 2).unflatten(2, (height // PATCH, width // PATCH))


def _dinov2(architecture: str) -> Callable[[Path | None], nn.Module]:
    def build(checkpoint: Path | None) -> nn.Module:
        if checkpoint is None:
            raise UserError(
                f"--backbone dinov2_{architecture}: needs its published weights, dinov2_{architecture}"
                "_pretrain.pth (refs/weights.yaml says where from); give the file with --backbone_checkpoint"
            )
        return DinoV2(architecture, checkpoint)

    return build


def _texton(checkpoint: Path | None) -> nn.Module:
    if checkpoint is not None:
        raise UserError(f"{checkpoint}: the texton backbone has no weights; leave --backbone_checkpoint out")
    return Texton().eval()


def _not_yet(name: str) -> Callable[[Path | None], nn.Module]:
    def build(checkpoint: Path | None) -> nn.Module:
        raise UserError(f"--backbone {name}: not available yet; use texton or dinov2_vitb14")

    return build


REGISTRY: Mapping[str, Callable[[Path | None], nn.Module]] = {
    "texton": _texton,
    "dinov2_vits14": _dinov2("vits14"),
    "dinov2_vitb14": _dinov2("vitb14"),
    "dinov2_vitl14": _dinov2("vitl14"),
    "dinov3_vits16": _not_yet("dinov3_vits16"),
    "dinov3_vitb16": _not_yet("dinov3_vitb16"),
}
NAMES = tuple(REGISTRY)


def build_backbone(name: str, checkpoint: Path | str | None = None) -> nn.Module:
    """Return a frozen backbone with `.patch_size`, `.embed_dim` and `.local`.

    Its forward takes normalised images (B, 3, H, W) (see `normalize`) and returns (B, embed_dim, H/p, W/p).
    `.local` says that features depend on the neighbourhood alone (no attention over the window).

    Raises:
        UserError: unknown name, missing or foreign weights.
    """
    if name not in REGISTRY:
        raise UserError(f"--backbone {name}: unknown; choose from {', '.join(NAMES)}")
    return REGISTRY[name](None if checkpoint is None else Path(checkpoint))


def normalize(images: np.ndarray | Tensor) -> Tensor:
    """Return images as backbones take them.

    images: (H, W, 3) uint8 RGB, or (B, 3, H, W) float in 0-1 -> (1 or B, 3, H, W) float32 with ImageNet's
    mean and spread removed.
    """
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images)).permute(2, 0, 1)[None].float() / 255
    mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (images - mean) / std


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running code from the file.

    Raises:
        UserError: missing file, or not a dict of tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; see refs/weights.yaml for its source")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a foreign file
        raise UserError(
            f"{path}: not a file of tensors ({type(error).__name__}); download it again"
        ) from None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict; give the published checkpoint")
    return content


def load_strict(module: nn.Module, path: Path) -> None:
    """Load a state dict whose names and shapes must all fit.

    Raises:
        UserError: any missing, unexpected or differently shaped entry.
    """
    try:
        module.load_state_dict(load_tensors(path), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: weights of another model ({detail}); check --backbone") from None
