"""CSCMRefineNet: learns a semantic map from self-supervised features, depth and the image.

The name is read as "cross-scale cross-modal": features, depth and colours are averaged over squares of
several sizes around each feature token, and joined by what depth and image show at the very pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDES = (1, 3, 7, 13)
"""Sides in tokens of the squares that are averaged over; the largest is about a quarter of the height."""
FINE_CHANNELS = 16


def box_mean(maps: Tensor, side: int) -> Tensor:
    """Average over the square of odd `side` around each place, as far as it lies inside: (B, C, h, w)."""
    maps = maps.float()
    if side == 1:
        return maps
    for dim in (2, 3):
        length = maps.shape[dim]
        places = torch.arange(length, device=maps.device)
        first, last = (places - side // 2).clamp_min(0), (places + side // 2 + 1).clamp_max(length)
        total = torch.cat((torch.zeros_like(maps.narrow(dim, 0, 1)), maps.cumsum(dim)), dim=dim)
        shape = (-1, 1) if dim == 2 else (1, -1)
        maps = (total.index_select(dim, last) - total.index_select(dim, first)) / (last - first).view(shape)
    return maps


def at_pixels(maps: Tensor, size: tuple[int, int], pixels: Tensor | None) -> Tensor:
    """Interpolate token maps (B, C, h, w) bilinearly to the image's `size`: (B, C, H, W).

    pixels: (N,) int64 row * W + column; then these pixels alone, (B, C, N).
    """
    if pixels is None:
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    height, width = size
    rows = torch.div(pixels, width, rounding_mode="floor")
    places = torch.stack(((2 * (pixels % width) + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)
    grid = places.to(maps.dtype).expand(len(maps), 1, -1, -1)
    found = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0]


class RefineTrunk(nn.Module):
    """Features, depth and image -> context of each token, and maps of pixels.

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
        self.context_channels = len(SIDES) * (feature_dim + 4)
        self.from_context = nn.Conv2d(self.context_channels, channels, 1)
        self.fine = nn.Sequential(
            nn.Conv2d(4, FINE_CHANNELS, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(FINE_CHANNELS, FINE_CHANNELS, 3, padding=1),
        )
        self.from_fine = nn.Linear(FINE_CHANNELS, channels)
        self.block = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, channels),
            nn.GELU(),
            nn.Linear(channels, channels),
        )
        self.output = nn.Sequential(nn.LayerNorm(channels), nn.GELU())

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and deviation of the features, both (D,)."""
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)

    def standardize(self, features: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w), zero mean and unit variance over the frames trained on."""
        return (features - self.feature_mean.view(1, -1, 1, 1)) / self.feature_std.view(1, -1, 1, 1)

    def context(self, features: Tensor, log_depth: Tensor, image: Tensor) -> Tensor:
        """Return means over squares of all sides: (B, 4 (D + 4), h, w) on the grid of the features."""
        grid = (features.shape[-2], features.shape[-1])
        around = F.adaptive_avg_pool2d(torch.cat((log_depth, 4 * image - 2), dim=1), grid)
        tokens = torch.cat((self.standardize(features), around), dim=1)
        return torch.cat([box_mean(tokens, side) for side in SIDES], dim=1)

    def forward(
        self, context: Tensor, log_depth: Tensor, image: Tensor, pixels: Tensor | None = None
    ) -> Tensor:
        """Return maps of all pixels, (B, H, W, C), or of `pixels` alone, (B, N, C)."""
        fine = self.fine(torch.cat((log_depth, 4 * image - 2), dim=1))
        if pixels is not None:
            fine = fine.flatten(2)[..., pixels]
        size = (image.shape[-2], image.shape[-1])
        tokens = at_pixels(self.from_context(context), size, pixels)
        hidden = tokens.movedim(1, -1) + self.from_fine(fine.movedim(1, -1))
        return self.output(hidden + self.block(hidden))


class SemanticHead(nn.Module):
    """Class logits: linear discriminants of the context, which are given, and a correction that is learned.

    The discriminants are the network before its first step. The correction starts at zero.
    """

    def __init__(self, context_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.start = nn.Conv2d(context_channels, num_classes, 1).requires_grad_(False)
        self.correction = nn.Linear(channels, num_classes)
        for parameter in (*self.start.parameters(), *self.correction.parameters()):
            nn.init.zeros_(parameter)

    def set_start(self, weights: Tensor, biases: Tensor) -> None:
        """Set the discriminants: weights (K, context channels), biases (K,)."""
        self.start.weight.copy_(weights[..., None, None])
        assert self.start.bias is not None
        self.start.bias.copy_(biases)

    def forward(
        self, context: Tensor, maps: Tensor, size: tuple[int, int], pixels: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, K, H, W), or (B, K, N) where `maps` are those of `pixels`."""
        return at_pixels(self.start(context), size, pixels) + self.correction(maps).movedim(-1, 1)


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
        self.semantic = SemanticHead(self.trunk.context_channels, channels, num_classes)

    def forward(
        self, features: Tensor, log_depth: Tensor, image: Tensor, pixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return {"semantic": (B, K, H, W) logits}.

        Args:
            features: (B, D, h, w), any grid over the same view.
            log_depth: (B, 1, H, W) natural log of depth, median of the frame removed.
            image: (B, 3, H, W) RGB in 0-1.
            pixels: (N,) int64, row * W + column; then the semantics of these alone, (B, K, N).
        """
        context = self.trunk.context(features, log_depth, image)
        maps = self.trunk(context, log_depth, image, pixels)
        return {"semantic": self.semantic(context, maps, (image.shape[-2], image.shape[-1]), pixels)}
