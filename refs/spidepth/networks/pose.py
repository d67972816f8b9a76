"""Camera motion between two frames (Monodepth2, Godard et al., ICCV 2019, section 3.1)."""

from __future__ import annotations

from torch import Tensor, nn

from refs.timm_models import create_model

MOTION_SCALE = 0.01
"""Keeps the first predictions near "no motion"."""


def _block(channels_in: int, channels_out: int, side: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, side, padding=side // 2), nn.ReLU())


class PoseNet(nn.Module):
    """Backbone over two stacked frames, four convolutions, mean over the image; names as in `pose.pth`.

    Nothing is downloaded: the backbone starts from random weights.
    """

    def __init__(self, backbone: str = "resnet18") -> None:
        super().__init__()
        self.encoder = create_model(
            backbone, pretrained=False, features_only=True, out_indices=(4,), in_chans=6
        )
        self.squeeze = _block(self.encoder.feature_info.channels()[-1], 256, 1)
        self.decoder = nn.Sequential(_block(256, 256, 3), _block(256, 256, 3), nn.Conv2d(256, 6, 1))

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Two frames stacked, (B, 6, H, W) in 0-1 -> axis-angle (B, 3) in radians, translation (B, 3).

        The motion takes points of the first frame's camera to the second's; its scale is that of the depth.
        """
        motion = self.decoder(self.squeeze(self.encoder(pairs)[-1])).mean(dim=(2, 3))
        axis_angle, translation = (MOTION_SCALE * motion).chunk(2, dim=1)
        return axis_angle, translation
