"""Frozen feature extractors behind one interface, chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cups.backbones.texton import IMAGENET_MEAN, IMAGENET_STD, Texton
from cups.errors import UserError
from cups.io.checkpoint import read_file
from cups.io.weights import how_to_get, weight_files
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
            self.load(checkpoint)
        self.requires_grad_(False).eval()

    def load(self, checkpoint: Path) -> None:
        """Load a file with the official names; raises `UserError` if it does not fit."""
        load_strict(self.network, checkpoint)

    def set_grad_checkpointing(self) -> None:
        """Keep no activations inside the blocks when training; they are computed twice."""
        self.network.checkpointing = True

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W), sides multiples of 14 -> (B, embed_dim, H/14, W/14)."""
        height, width = images.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"image sides must be multiples of {PATCH}, not {height} x {width}")
        _, tokens = self.network(images)
        return tokens.transpose(1, 2).unflatten(2, (height // PATCH, width // PATCH))


DINOV3 = {"vits16": "vit_small_patch16_dinov3", "vitb16": "vit_base_patch16_dinov3"}
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
        import timm  # seconds, which the other backbones need not wait for

        super().__init__()
        self.network = timm.create_model(DINOV3[architecture], pretrained=False, num_classes=0, qkv_bias=True)
        self.embed_dim: int = self.network.embed_dim
        if checkpoint is not None:
            self.load(checkpoint)
        self.requires_grad_(False).eval()

    def load(self, checkpoint: Path) -> None:
        """Load a file with official names or timm's; raises `UserError` if it does not fit."""
        load_strict(self.network, checkpoint, translate=self._named_as_here)

    def set_grad_checkpointing(self) -> None:
        """Keep no activations inside the blocks when training; they are computed twice."""
        self.network.set_grad_checkpointing()

    def _named_as_here(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
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


def official_to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an official DINOv3 state dict as timm names them.

    The key bias is dropped: the official model masks it, and attention does not change with it. The rotary
    periods follow from the architecture; the mask token serves training alone.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("attn.qkv.bias"):
            query, _, value = tensor.chunk(3)
            renamed[name.replace("qkv.bias", "q_bias")] = query
            renamed[name.replace("qkv.bias", "v_bias")] = value
        elif name not in ("mask_token", "rope_embed.periods") and not name.endswith("qkv.bias_mask"):
            name = name.replace("storage_tokens", "reg_token")
            renamed[name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")] = tensor
    return renamed


Builder = Callable[[Path | None], nn.Module]


def _dino(name: str, network: type[DinoV2] | type[DinoV3]) -> Builder:
    def build(checkpoint: Path | None) -> nn.Module:
        path = checkpoint or weight_files(name)[0].path
        if checkpoint is None and not path.is_file():
            raise UserError(
                f"{path}: no such file, the weights of --backbone {name}; get it ({how_to_get(name)}) "
                "or give --backbone_checkpoint"
            )
        return network(name.partition("_")[2], path)

    return build


def _texton(checkpoint: Path | None) -> nn.Module:
    if checkpoint is not None:
        raise UserError(f"{checkpoint}: the texton backbone has no weights; leave --backbone_checkpoint out")
    return Texton().eval()


NETWORKS: Mapping[str, type[DinoV2] | type[DinoV3]] = {
    **dict.fromkeys(("dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14"), DinoV2),
    **dict.fromkeys(("dinov3_vits16", "dinov3_vitb16"), DinoV3),
}
REGISTRY: Mapping[str, Builder] = {
    "texton": _texton,
    **{name: _dino(name, network) for name, network in NETWORKS.items()},
}
NAMES = tuple(REGISTRY)


def untrained_backbone(name: str) -> nn.Module:
    """Return a backbone of `NAMES` with random weights, to be loaded or trained (`texton` has none).

    Raises:
        UserError: unknown name.
    """
    if name == "texton":
        return Texton()
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
    if name not in REGISTRY:
        raise UserError(f"--backbone {name}: unknown; choose from {', '.join(NAMES)}")
    return REGISTRY[name](None if checkpoint is None else Path(checkpoint))


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


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running code from the file.

    Raises:
        UserError: missing file, or not a dict of tensors.
    """
    content = read_file(path, fix="see refs/weights.yaml for its source")
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict; give the published checkpoint")
    return content


def load_strict(
    module: nn.Module,
    path: Path,
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Load a state dict whose names (after `translate`) and shapes must all fit.

    Raises:
        UserError: any missing, unexpected or differently shaped entry.
    """
    tensors = load_tensors(path)
    try:
        module.load_state_dict(tensors if translate is None else translate(tensors), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: weights of another model ({detail}); check --backbone") from None
