"""Agreement of labels between pixels that look alike, as a loss that asks for it."""

from __future__ import annotations

import torch
from torch import Tensor

from cups.backbones.texton import rgb_to_lab

DILATIONS = (1, 2, 4, 8, 16)
"""Up to past a feature token (11 pixels of 512 rows): as far off as outlines drawn on that grid may lie."""
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Half of the eight neighbours: each pair of pixels once."""

COLOR_BANDWIDTH = 10.0
"""CIE Lab units."""
DEPTH_BANDWIDTH = 0.1
"""Natural-log units: a tenth of the distance."""
FEATURE_BANDWIDTH = 0.5
"""Of the root mean square distance of two pixels drawn at random."""


def pairwise_guide(image: Tensor, log_depth: Tensor, features: Tensor) -> Tensor:
    """Stack what tells surfaces apart, each scaled by its bandwidth.

    The affinity of two pixels is exp(-d^2 / 2) with d their distance in the guide: a bilateral kernel over
    colour, depth and features (Krähenbühl & Koltun, NeurIPS 2011, with two more cues).

    Args:
        image: (B, 3, H, W) RGB in 0-1.
        log_depth: (B, 1, H, W) natural log of depth in any unit.
        features: (B, P, H, W) in units of the root mean square distance of random pixels.

    Returns:
        (B, 4 + P, H, W) float32.
    """
    parts = (
        rgb_to_lab(image.float()) / COLOR_BANDWIDTH,
        log_depth.float() / DEPTH_BANDWIDTH,
        features.float() / FEATURE_BANDWIDTH,
    )
    return torch.cat(parts, dim=1)


def draw_pairs(height: int, width: int, count: int) -> tuple[Tensor, Tensor]:
    """Draw pairs of pixels that all lie at one random offset: two (count,) int64, row * width + column.

    The offset is one of the eight neighbours' at one of `DILATIONS` that the image holds, drawn by torch's
    global generator. An image of one pixel is paired with itself.
    """
    offsets = [(down * d, right * d) for d in DILATIONS for down, right in DIRECTIONS]
    inside = [(down, right) for down, right in offsets if down < height and abs(right) < width] or [(0, 0)]
    down, right = inside[int(torch.randint(len(inside), ()))]
    rows = torch.randint(height - down, (count,))
    columns = torch.randint(width - abs(right), (count,)) + max(0, -right)
    first = rows * width + columns
    return first, first + down * width + right


def pairwise_smoothness(probabilities: Tensor, guide: Tensor) -> Tensor:
    """Return the chance that the labels of look-alike pairs differ, averaged by affinity: scalar.

    The Potts energy of a gated CRF (Obukhov et al., "Gated CRF Loss for Weakly Supervised Semantic Image
    Segmentation", 2019) over the sum of affinities, so that textured images, with few look-alike pairs, weigh
    no less.

    Args:
        probabilities: (B, K, 2, N), sum 1 over classes; both pixels of N pairs.
        guide: (B, G, 2, N), see `pairwise_guide`.
    """
    equal = (probabilities[:, :, 0] * probabilities[:, :, 1]).sum(dim=1)
    weight = torch.exp(-0.5 * (guide[:, :, 0] - guide[:, :, 1]).square().sum(dim=1))
    return (weight * (1 - equal)).sum() / weight.sum().clamp_min(1e-6)
