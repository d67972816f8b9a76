"""U-Net on a timm backbone: the feature extractor of SPIdepth (Lavreniuk 2024)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refs.timm_models import create_model

RESNET_MEAN, RESNET_STD = 0.45, 0.225
"""Input normalisation of the ResNet variants (Monodepth2); ConvNeXt variants take raw 0-1 values."""


class ConvBlock(nn.Module):
    """3 x 3 convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H, W)."""
        return F.relu(self.bn(self.conv(x)))


class UpBlock(nn.Module):
    """Upsample to the skip connection's size (or twice), concatenate, convolve twice."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels_in, channels_out)
        self.conv2 = ConvBlock(channels_out, channels_out)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(B, C, h, w) and (B, S, H, W) or None -> (B, channels_out, H, W), or twice h and w."""
        # The published network aligns corners where it meets a skip connection, and not in the last block.
        if skip is None:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        else:
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=True)
            x = torch.cat((x, skip), dim=1)
        return self.conv2(self.conv1(x))


class UpDecoder(nn.Module):
    """One block per decoder width, then a 1 x 1 convolution to `model_dim`."""

    def __init__(self, encoder_channels: Sequence[int], widths: Sequence[int], model_dim: int) -> None:
        super().__init__()
        coarse_first = list(encoder_channels[::-1])
        skips = [*coarse_first[1:], 0]
        inputs = [coarse_first[0], *widths[:-1]]
        self.blocks = nn.ModuleList(
            UpBlock(below + skip, width) for below, skip, width in zip(inputs, skips, widths, strict=True)
        )
        self.final_conv = nn.Conv2d(widths[-1], model_dim, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features of strides 4, 8, 16, 32 -> (B, model_dim, H/2, W/2)."""
        coarse_first = list(features[::-1])
        x = coarse_first[0]
        for block, skip in zip(self.blocks, [*coarse_first[1:], None], strict=True):
            x = block(x, skip)
        return self.final_conv(x)


class UNet(nn.Module):
    """Backbone with four strides (4 to 32) and the decoder that brings it to stride 2.

    Nothing is ever downloaded: the backbone starts from random weights.

    Args:
        backbone: name of a timm model with features at strides 4, 8, 16 and 32.
        widths: decoder channels, coarse to fine.
        model_dim: output channels.
    """

    def __init__(self, backbone: str, widths: Sequence[int], model_dim: int) -> None:
        super().__init__()
        self.normalise = "resnet" in backbone
        indices = (1, 2, 3, 4) if self.normalise else (0, 1, 2, 3)
        self.encoder = create_model(backbone, pretrained=False, features_only=True, out_indices=indices)
        strides = self.encoder.feature_info.reduction()
        if strides != [4, 8, 16, 32] or len(widths) != len(strides):
            raise ValueError(f"{backbone}: strides {strides} with {len(widths)} decoder widths do not fit")
        self.decoder = UpDecoder(self.encoder.feature_info.channels(), widths, model_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in 0-1 -> features (B, model_dim, H/2, W/2)."""
        if self.normalise:
            images = (images - RESNET_MEAN) / RESNET_STD
        return self.decoder(self.encoder(images))
