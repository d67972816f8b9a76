"""DINOv2 and DINOv3 as backbones: patch tokens as a map, official weight files by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cups.backbones.layouts import official_to_timm, timm_to_official, transformers_to_official
from cups.io.checkpoint import load_state, load_tensors
from refs.cause.models.dinov2 import PATCH, dinov2_vit
from refs.timm_models import create_model


class DinoV2(nn.Module):
    """DINOv2 patch tokens as a map; `network` has the official checkpoint's names."""

    local = False
    patch_size = PATCH

    def __init__(self, architecture: str, checkpoint: Path | None) -> None:
        super().__init__()
        self.network = dinov2_vit(architecture)
        self.embed_dim = self.network.dim
        if checkpoint is not None:
            self.load(checkpoint)
        self.requires_grad_(False).eval()

    def load(self, checkpoint: Path) -> None:
        """Load a file with official names, timm's or Transformers'; raises `UserError` if it does not fit."""
        load_strict(self.network, checkpoint, translate=self._named_as_here)

    def set_grad_checkpointing(self) -> None:
        """Keep no activations inside the blocks when training; they are computed twice."""
        self.network.checkpointing = True

    def _named_as_here(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return timm_to_official(transformers_to_official(state), self.network.pos_embed.shape[1])

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W), sides multiples of 14 -> (B, embed_dim, H/14, W/14)."""
        height, width = images.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"image sides must be multiples of {PATCH}, not {height} x {width}")
        _, tokens = self.network(images)
        return tokens.transpose(1, 2).unflatten(2, (height // PATCH, width // PATCH))


DINOV3 = {
    "vits16": "vit_small_patch16_dinov3",
    "vitb16": "vit_base_patch16_dinov3",
    "vitl16": "vit_large_patch16_dinov3",
}
"""Architecture -> name of the model in timm."""


class DinoV3(nn.Module):
    """DINOv3 patch tokens as a map (Siméoni et al., 2025).

    `network` is timm's model with its parameter names; files in the official naming are translated on loading
    (`official_to_timm`). The query and value biases, which the published models have at zero, are kept, so
    that a fine-tuned checkpoint with other values gives its own features.
    """

    local = False
    patch_size = 16
    network: Any

    def __init__(self, architecture: str, checkpoint: Path | None) -> None:
        super().__init__()
        self.network = create_model(DINOV3[architecture], pretrained=False, num_classes=0, qkv_bias=True)
        self.embed_dim: int = self.network.embed_dim
        if checkpoint is not None:
            self.load(checkpoint)
        self.requires_grad_(False).eval()

    def load(self, checkpoint: Path) -> None:
        """Load a file with official names, timm's or Transformers'; raises `UserError` if it does not fit."""
        load_strict(self.network, checkpoint, translate=self._named_as_here)

    def set_grad_checkpointing(self) -> None:
        """Keep no activations inside the blocks when training; they are computed twice."""
        self.network.set_grad_checkpointing()

    def _named_as_here(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = transformers_to_official(state)
        state = official_to_timm(state) if "storage_tokens" in state else state
        # timm's own files leave the zero biases out.
        zeros = torch.zeros(self.embed_dim)
        names = (name for name in self.network.state_dict() if name.endswith((".q_bias", ".v_bias")))
        return {**dict.fromkeys(names, zeros), **state}

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W), sides multiples of 16 -> (B, embed_dim, H/16, W/16)."""
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(f"image sides must be multiples of {self.patch_size}, not {height} x {width}")
        tokens = self.network.forward_features(images)[:, self.network.num_prefix_tokens :]
        grid = (height // self.patch_size, width // self.patch_size)
        return tokens.transpose(1, 2).unflatten(2, grid)


def load_strict(
    module: nn.Module,
    path: Path,
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Load a file whose names (after `translate`) and shapes must all fit.

    Raises:
        UserError: any missing, unexpected or differently shaped entry.
    """
    tensors = load_tensors(path)
    load_state(module, tensors if translate is None else translate(tensors), path, "check `backbone`")
