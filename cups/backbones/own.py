"""ResNets that `pseudo_labels/train_backbone.py` trained on somebody's own images, as backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cups.backbones.names import own_path
from cups.errors import UserError
from cups.io.checkpoint import load_state, read_file

ARCHITECTURES = ("resnet18", "resnet50")


def bare_resnet(architecture: str) -> Any:
    """Return a ResNet with torchvision's names and random weights, without its classifier.

    Raises:
        UserError: unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise UserError(f"`architecture` {architecture}: unknown; choose from {', '.join(ARCHITECTURES)}")
    from torchvision.models import get_model  # as slow to import as torch; other backbones do without

    network = get_model(architecture, weights=None)
    network.fc = nn.Identity()
    return network


def stages(network: Any, images: Tensor) -> list[Tensor]:
    """Return the outputs of the four stages: (B, 3, H, W) -> (B, C, H/4, W/4) ... (B, C, H/32, W/32)."""
    features = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    outputs = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        features = stage(features)
        outputs.append(features)
    return outputs


class OwnResNet(nn.Module):
    """Dense features of a ResNet: its second and third stage side by side, at the stride of the second.

    The fourth, at stride 32, is too coarse for the things of a street, and the closest to the training's own
    task. Each stage has length 1 in every place: neither rules distances by its scale alone.
    """

    local = False
    patch_size = 8

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.network = bare_resnet(architecture)
        sides = (self.network.layer2[-1], self.network.layer3[-1])
        norms = [getattr(block, "bn3", block.bn2) for block in sides]
        self.embed_dim = sum(norm.num_features for norm in norms)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W), sides multiples of 8 -> (B, embed_dim, H/8, W/8)."""
        _, fine, coarse, _ = stages(self.network, images)
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([F.normalize(part, dim=1) for part in (fine, coarse)], dim=1)


def read_own(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return (state dict, architecture) of a file that `train_backbone.py` wrote.

    Raises:
        UserError: missing file, or another kind of file.
    """
    content = read_file(path, "train it with train_backbone.py")
    try:
        return dict(content["state_dict"]), str(content["settings"]["architecture"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise UserError(f"{path}: not weights of train_backbone.py; check `backbone`") from None


def own_backbone(name: str, checkpoint: Path | None = None, load: bool = True) -> OwnResNet:
    """Return the backbone `own:PATH`; without `load`, with random weights.

    Raises:
        UserError: missing or foreign weights, or a second file.
    """
    path = own_path(name)
    if checkpoint is not None and checkpoint != path:
        raise UserError(f"{checkpoint}: `backbone` {name} names its weights; leave `backbone_checkpoint` out")
    state, architecture = read_own(path)
    backbone = OwnResNet(architecture)
    if load:
        load_state(backbone.network, state, path, "check `backbone`")
    return backbone
