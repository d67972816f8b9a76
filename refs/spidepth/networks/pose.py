"""Camera motion between two frames (Monodepth2, Godard et al., ICCV 2019, section 3.1)."""

from __future__ import annotations

import timm
import torch.nn.functional as F
from torch import Tensor, nn

from refs.spidepth.networks.unet import RESNET_MEAN, RESNET_STD

MOTION_SCALE = 0.01
"""Keeps the first predictions near "no motion"."""


class PoseNet(nn.Module):
    """Backbone over two stacked frames, four convolutions, mean over the image.

    Nothing is downloaded: the backbone starts from random weights.
    """

    def __init__(self, backbone: str = "resnet18") -> None:
        super().__init__()
        self.encoder = timm.create_model(
            backbone, pretrained=False, features_only=True, out_indices=(4,), in_chans=6
        )
        channels = self.encoder.feature_info.channels()[-1]
        self.squeeze = nn.Conv2d(channels, 256, 1)
        self.pose = nn.ModuleList([nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(256, 256, 3, padding=1)])
        self.motion = nn.Conv2d(256, 6, 1)

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Two frames stacked, (B, 6, H, W) in 0-1 -> axis-angle (B, 3) in radians, translation (B, 3).

        The motion takes points of the first frame's camera to the second's; its scale is that of the depth.
        """
        x = F.relu(self.squeeze(self.encoder((pairs - RESNET_MEAN) / RESNET_STD)[-1]))
        for layer in self.pose:
            x = F.relu(layer(x))
        rotation, translation = (MOTION_SCALE * self.motion(x).mean(dim=(2, 3))).chunk(2, dim=1)
        return rotation, translation
