"""Losses that teach depth and camera motion by explaining one frame from its neighbours (Godard et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from refs.spidepth.layers import backproject, project, ssim

SSIM_WEIGHT = 0.85
TIE_BREAK = 1e-5
"""Noise on the identity error, so that exact ties of still, flat pixels do not all fall to one side."""


def photometric_error(predicted: Tensor, target: Tensor) -> Tensor:
    """0.85 SSIM + 0.15 L1 (Monodepth2, equation 2): images (B, 3, H, W) in 0-1 -> (B, 1, H, W)."""
    difference = (predicted - target).abs().mean(dim=1, keepdim=True)
    return SSIM_WEIGHT * ssim(predicted, target).mean(dim=1, keepdim=True) + (1 - SSIM_WEIGHT) * difference


def warp(source: Tensor, depth: Tensor, pose: Tensor, intrinsics: Tensor) -> Tensor:
    """Rebuild the target frame from a source frame.

    Args:
        source: (B, 3, H, W).
        depth: (B, 1, H, W) of the target frame.
        pose: (B, 4, 4) from the target camera's space to the source camera's.
        intrinsics: (B, 3, 3) in pixels of these images.
    """
    points = backproject(depth, torch.linalg.inv(intrinsics))
    grid = project(points, intrinsics, pose, *source.shape[-2:])
    return F.grid_sample(source, grid, padding_mode="border", align_corners=True)


def synthesis_loss(
    target: Tensor,
    sources: Sequence[Tensor],
    warped: Sequence[Tensor],
    available: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Photometric loss of the best source per pixel, where moving the camera explains more than standing still.

    The minimum over sources passes over what one of them cannot see (Monodepth2, equation 4); a pixel whose
    unmoved source fits better than every warped one is left out (auto-masking, equation 5): still scenes and
    objects that keep pace with the camera say nothing about depth.

    Args:
        target: (B, 3, H, W) in 0-1; `sources` and `warped` hold as many frames of that shape each.
        available: (B, len(sources)) bool; frames at the end of a sequence lack a neighbour.
    """
    missing = torch.where(available, 0.0, torch.inf).to(target.dtype)[:, :, None, None]
    moved = torch.cat([photometric_error(frame, target) for frame in warped], dim=1) + missing
    still = torch.cat([photometric_error(frame, target) for frame in sources], dim=1) + missing
    still = still.amin(dim=1)
    noise = torch.randn(still.shape, generator=generator, dtype=still.dtype).to(still.device)
    moved = moved.amin(dim=1)
    used = moved < still + TIE_BREAK * noise
    return torch.where(used, moved, 0.0).sum() / used.sum().clamp(min=1)


def smoothness_loss(depth: Tensor, image: Tensor) -> Tensor:
    """Edge-aware smoothness of the inverse depth over its mean (Monodepth2, equation 3).

    Inverse depth, because a slanted road is a plane in it and because depth itself would let the far end of
    the street outvote everything near. depth: (B, 1, H, W) > 0; image: (B, 3, H, W) in 0-1.
    """
    inverse = 1 / depth
    inverse = inverse / inverse.mean(dim=(2, 3), keepdim=True)
    parts = []
    for axis in (2, 3):
        change = inverse.diff(dim=axis).abs()
        edge = image.diff(dim=axis).abs().mean(dim=1, keepdim=True)
        parts.append((change * torch.exp(-edge)).mean())
    return parts[0] + parts[1]
