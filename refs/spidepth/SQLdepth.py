"""Monocular depth network of SPIdepth (Lavreniuk 2024), state-dict compatible with the published weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from refs.spidepth.networks import SelfQueryDecoder, UNet


class SQLDepth(nn.Module):
    """U-Net features and the self-query decoder; `encoder.pth` and `depth.pth` hold the two parts.

    The defaults are those of a small model; the published Cityscapes weights are `convnextv2_huge` with
    `dec_channels=(1024, 512, 256, 128)` and `patch_size=32`. Nothing is downloaded.
    """

    def __init__(
        self,
        backbone: str = "convnextv2_atto",
        model_dim: int = 32,
        patch_size: int = 16,
        query_nums: int = 64,
        dim_out: int = 64,
        dec_channels: Sequence[int] = (256, 128, 64, 32),
        min_depth: float = 0.01,
        max_depth: float = 80.0,
        feedforward: int = 1024,
    ) -> None:
        super().__init__()
        self.encoder = UNet(backbone, dec_channels, model_dim)
        self.depth_decoder = SelfQueryDecoder(
            model_dim, patch_size, query_nums, dim_out, min_depth, max_depth, feedforward
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in 0-1 -> depth (B, 1, H/2, W/2), far is large. It is not a disparity.

        Raises:
            ValueError: images that give too few or too many tokens.
        """
        features = self.encoder(images)
        # A depth in bfloat16 has steps of 0.4 %, which look like edges: bins are summed in full precision.
        with torch.autocast(images.device.type, enabled=False):
            return self.depth_decoder(features.float())
