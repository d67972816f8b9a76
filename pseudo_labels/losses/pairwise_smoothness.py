"""Agreement of labels between pixels that look alike: how far to trust them, and a loss that asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def _pairs(
    height: int, width: int, dilations: Sequence[int] = DILATIONS
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Yield (rows, columns) of the first and the second pixels of the neighbour pairs, per offset."""
    for dilation in dilations:
        for down, right in DIRECTIONS:
            rows, columns = down * dilation, right * dilation
            if rows >= height or abs(columns) >= width:
                continue
            first = (slice(0, height - rows), slice(max(0, -columns), width - max(0, columns)))
            second = (slice(rows, height), slice(max(0, columns), width + min(0, columns)))
            yield first, second


def _affinity(guide: Tensor, first: tuple[slice, slice], second: tuple[slice, slice]) -> Tensor:
    difference = guide[(..., *first)] - guide[(..., *second)]
    return torch.exp(-0.5 * difference.square().sum(dim=1))


@torch.no_grad()
def local_agreement(labels: Tensor, guide: Tensor) -> Tensor:
    """Return how far neighbours that look alike carry a pixel's label: (B, H, W) float32 in 0-1.

    The affinity-weighted share of equal labels, the pixel itself counted as one neighbour, so a pixel unlike
    all around it keeps the benefit of the doubt. Void pixels are neither asked nor counted.

    Args:
        labels: (B, H, W) integer, below 0 = void.
        guide: (B, G, H, W), see `pairwise_guide`.
    """
    known = labels >= 0
    total = torch.ones_like(guide[:, 0])
    equal = torch.ones_like(total)
    for first, second in _pairs(*labels.shape[1:]):
        a, b = (..., *first), (..., *second)
        weight = _affinity(guide, first, second) * (known[a] & known[b])
        same = weight * (labels[a] == labels[b])
        for side in (a, b):
            total[side] += weight
            equal[side] += same
    return equal / total * known


def pairwise_smoothness(probabilities: Tensor, guide: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Return twice the chance that the labels of look-alike neighbours differ, averaged by affinity: scalar.

    The Potts energy of a gated CRF (Obukhov et al., "Gated CRF Loss for Weakly Supervised Semantic Image
    Segmentation", 2019), in which each pair counts for both its pixels; over the sum of affinities, so that
    textured images, with few look-alike pairs, weigh no less.

    Args:
        probabilities: (B, K, H, W), sum 1 over classes.
        guide: (B, G, H, W), see `pairwise_guide`.
        dilations: distances in pixels, along rows and columns, at which neighbours are taken.
    """
    total = weights = probabilities.new_zeros(())
    height, width = probabilities.shape[2:]
    for first, second in _pairs(height, width, dilations):
        equal = (probabilities[(..., *first)] * probabilities[(..., *second)]).sum(dim=1)
        weight = _affinity(guide, first, second)
        total, weights = total + (weight * (1 - equal)).sum(), weights + weight.sum()
    return 2 * total / weights.clamp_min(1e-6)
