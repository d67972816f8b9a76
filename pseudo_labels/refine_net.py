"""CSCMRefineNet: learns a semantic map from self-supervised features, depth and the image.

The name is read as "cross-scale cross-modal": its inputs live on three grids (feature tokens, half size,
full size) and are weighed against each other at every pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK_DILATIONS = (1, 2, 4, 8, 1)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, so that crops and whole images agree."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.norm(maps.movedim(1, -1)).movedim(-1, 1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the first dilated, around which the input is added."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ChannelNorm(channels),
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return maps + self.layers(maps)


class CrossModalFusion(nn.Module):
    """Sum of modalities, each weighed per pixel and channel by a gate that sees all of them."""

    def __init__(self, channels: int, modalities: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in range(modalities))
        self.gates = nn.Conv2d(channels * modalities, channels * modalities, 1)

    def forward(self, modalities: list[Tensor]) -> Tensor:
        """M maps (B, C, H, W) -> (B, C, H, W)."""
        normed = torch.cat([norm(maps) for norm, maps in zip(self.norms, modalities, strict=True)], dim=1)
        gated = normed * torch.sigmoid(self.gates(normed))
        return torch.stack(gated.chunk(len(modalities), dim=1)).sum(dim=0)


class ConvexUpsampling(nn.Module):
    """Doubles a map: each fine pixel is a mix of the 3x3 coarse ones around, chosen by a fine guide.

    Teed & Deng, "RAFT" (ECCV 2020), section 3.3, with the weights read off the image and depth instead of the
    coarse state, so that outlines follow theirs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.Conv2d(channels, 9, 3, padding=1)

    def forward(self, coarse: Tensor, guide: Tensor) -> Tensor:
        """(B, C, h, w), guide (B, C, 2h, 2w) -> (B, C, 2h, 2w)."""
        weights = self.weights(guide).softmax(dim=1)
        height, width = coarse.shape[-2:]
        padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate")
        # One neighbour at a time: all nine at full size at once would not fit for large images.
        fine = torch.zeros_like(guide)
        for number in range(9):
            row, column = divmod(number, 3)
            neighbour = padded[..., row : row + height, column : column + width]
            neighbour = neighbour.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
            fine = fine + weights[:, number, None] * neighbour
        return fine


class RefineTrunk(nn.Module):
    """Features, depth and image -> maps at the size of the image.

    Args:
        feature_dim: channels D of the features.
        channels: width C.

    Features are standardised by `feature_mean` and `feature_std`, which `set_statistics` fills.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, feature_dim: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(feature_dim))
        self.register_buffer("feature_std", torch.ones(feature_dim))
        self.fine = nn.Sequential(nn.Conv2d(4, channels, 3, padding=1), nn.GELU())
        self.coarse = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.depth = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.GELU())
        self.features = nn.Conv2d(feature_dim, channels, 1)
        self.fusion = CrossModalFusion(channels, modalities=3)
        self.blocks = nn.Sequential(*(ResidualBlock(channels, dilation) for dilation in BLOCK_DILATIONS))
        self.upsampling = ConvexUpsampling(channels)
        self.output = nn.Sequential(
            ChannelNorm(2 * channels), nn.Conv2d(2 * channels, channels, 1), nn.GELU()
        )

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and deviation of the features, both (D,)."""
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)

    def standardize(self, features: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w), zero mean and unit variance over the frames trained on."""
        return (features - self.feature_mean.view(1, -1, 1, 1)) / self.feature_std.view(1, -1, 1, 1)

    def forward(self, features: Tensor, log_depth: Tensor, image: Tensor) -> Tensor:
        """Return (B, C, H, W); arguments as in `CSCMRefineNet.forward`."""
        height, width = image.shape[-2:]
        padding = (0, width % 2, 0, height % 2)
        image, log_depth = (_pad(maps, padding) for maps in (image, log_depth))
        fine = self.fine(torch.cat((4 * image - 2, log_depth), dim=1))
        size = (fine.shape[-2] // 2, fine.shape[-1] // 2)
        tokens = self.features(self.standardize(features))
        tokens = F.interpolate(tokens, size=size, mode="bilinear", align_corners=False)
        modalities = [self.coarse(fine), self.depth(F.avg_pool2d(log_depth, 2)), tokens]
        coarse = self.blocks(self.fusion(modalities))
        out = self.output(torch.cat((self.upsampling(coarse, fine), fine), dim=1))
        return out[..., :height, :width]


def _pad(maps: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    return F.pad(maps, padding, mode="replicate") if any(padding) else maps


class CSCMRefineNet(nn.Module):
    """Semantics of an image from its features, depth and colours.

    It learns them from pseudo-labels but never sees any, so it cannot copy: what features, depth and image do
    not tell, it has to leave out, and with it the chance errors of the labels.

    Args:
        feature_dim: channels D of the features, any backbone's.
        num_classes: classes K of the labels: 27 of CAUSE, 19, or clusters.
        channels: width of the network.
    """

    def __init__(self, feature_dim: int, num_classes: int, channels: int = 64) -> None:
        super().__init__()
        self.trunk = RefineTrunk(feature_dim, channels)
        self.semantic = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Tensor, log_depth: Tensor, image: Tensor) -> dict[str, Tensor]:
        """Return {"semantic": (B, K, H, W) logits}.

        Args:
            features: (B, D, h, w), any grid over the same view.
            log_depth: (B, 1, H, W) natural log of depth, median of the frame removed.
            image: (B, 3, H, W) RGB in 0-1.
        """
        return {"semantic": self.semantic(self.trunk(features, log_depth, image))}
