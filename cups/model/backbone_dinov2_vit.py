"""A vision transformer with a simple feature pyramid, as a detectron2 backbone."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from cups.backbones import untrained_backbone
from cups.ops.precision import full_precision, widen

STRIDES = (4, 8, 16, 32)


class SimpleFeaturePyramid(Backbone):
    """Levels `p2` to `p6` (strides 4 to 64) from the last feature map of a plain transformer.

    Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ECCV 2022), section 3: no
    top-down path; each level is made from the same map by (de)convolution or pooling, then a 1x1 and a 3x3
    convolution, each with LayerNorm. DINOv2 has patches of 14 pixels, but pooling of regions wants strides
    that are powers of two: images are padded to whole patches, and the map of patches is sampled on the grid
    of stride 16.

    Args:
        extractor: normalised images (B, 3, H, W), sides multiples of `.patch_size`, -> (B, `.embed_dim`,
            H/p, W/p); see `cups.backbones`.
        out_channels: channels of every level.
        frozen: the extractor is not trained: it stays in evaluation mode and keeps no activations.
    """

    def __init__(self, extractor: Any, out_channels: int = 256, frozen: bool = True) -> None:
        super().__init__()
        self.extractor = extractor
        self.frozen = frozen
        self.out_channels = out_channels
        # The power of two nearest to the patch: 16 for patches of 14.
        self.stride = 2 ** round(log2(extractor.patch_size))
        extractor.requires_grad_(not frozen)
        for name, parameter in extractor.named_parameters():
            # Serves masked pretraining alone; distributed training refuses parameters without a gradient.
            if name.endswith("mask_token"):
                parameter.requires_grad_(False)
        self.levels = nn.ModuleList(
            _level(extractor.embed_dim, out_channels, self.stride, stride) for stride in STRIDES
        )

    @property
    def size_divisibility(self) -> int:
        """Sides of the input must be multiples of this."""
        return max(STRIDES)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each level (detectron2's protocol)."""
        strides = (*STRIDES, 2 * STRIDES[-1])
        return {f"p{int(log2(s))}": ShapeSpec(channels=self.out_channels, stride=s) for s in strides}

    def train(self, mode: bool = True) -> SimpleFeaturePyramid:
        """Set the mode; a frozen extractor stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.extractor.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W), sides multiples of 32 -> {"p2": (B, C, H/4, W/4), ..., "p6"}."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self._on_stride(images)
        maps = [level(features) for level in self.levels]
        maps.append(F.max_pool2d(maps[-1], kernel_size=1, stride=2))
        return dict(zip(self.output_shape(), maps, strict=True))

    def _on_stride(self, images: Tensor) -> Tensor:
        """Return the extractor's features at `self.stride`: (B, D, H/stride, W/stride)."""
        patch, (height, width) = self.extractor.patch_size, images.shape[-2:]
        padded = F.pad(images, (0, -width % patch, 0, -height % patch))
        return resample(self.extractor(padded), patch, self.stride, (height, width))


def resample(features: Tensor, patch: int, stride: int, size: Sequence[int]) -> Tensor:
    """Sample a map of patches bilinearly at the cell centres of another grid.

    Args:
        features: (B, D, h, w), cell (i, j) centred on pixel ((i + 1/2) patch, (j + 1/2) patch).
        patch, stride: pixels between cells of the given and of the wanted map.
        size: (H, W) of the image in pixels, multiples of `stride`.

    Returns:
        (B, D, H / stride, W / stride).
    """
    if patch == stride:
        return features
    axes = []
    for pixels, cells in zip(size, features.shape[-2:], strict=True):
        centers = (torch.arange(pixels // stride, device=features.device) + 0.5) * stride
        # grid_sample's -1 and 1 are the outer edges of the map (align_corners=False).
        axes.append(2 * centers / (cells * patch) - 1)
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    wide = widen(features)
    grid = torch.stack((columns, rows), dim=-1).to(wide.dtype).expand(len(features), -1, -1, -1)
    with full_precision(features.device):
        sampled = F.grid_sample(wide, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.to(features.dtype)


def _level(dim: int, out_channels: int, source: int, target: int) -> nn.Sequential:
    """Return the layers from the map of stride `source` to the level of stride `target`."""
    layers: list[nn.Module] = []
    doublings = int(log2(source / target))
    for step in range(doublings):
        if step:
            layers += [LayerNorm2d(dim, eps=1e-6), nn.GELU()]
        layers.append(nn.ConvTranspose2d(dim, dim // 2, kernel_size=2, stride=2))
        dim //= 2
    if doublings < 0:
        layers.append(nn.MaxPool2d(kernel_size=2**-doublings))
    layers += [
        nn.Conv2d(dim, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels, eps=1e-6),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels, eps=1e-6),
    ]
    return nn.Sequential(*layers)


@BACKBONE_REGISTRY.register()
def build_vit_backbone(cfg: Any, input_shape: ShapeSpec) -> SimpleFeaturePyramid:
    """Build the backbone of `MODEL.VIT` with random weights (detectron2's protocol)."""
    settings = cfg.MODEL.VIT
    extractor: Any = untrained_backbone(settings.NAME)
    if settings.GRADIENT_CHECKPOINTING and not settings.FROZEN:
        extractor.set_grad_checkpointing()
    return SimpleFeaturePyramid(extractor, cfg.MODEL.FPN.OUT_CHANNELS, settings.FROZEN)
