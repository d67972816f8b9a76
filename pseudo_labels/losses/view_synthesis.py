"""Losses of depth from video: view synthesis between frames (Godard et al., ICCV 2019, section 3).

Pure functions of tensors; they want 32-bit numbers, because a pixel's address needs more than bfloat16 has.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from refs.spidepth.layers import backproject, project, ssim

SSIM_SHARE = 0.85
TIE_BREAK = 1e-5
"""Noise on the identity error, so that exact ties between the two hypotheses fall either way."""


def warp(
    sources: Tensor, depth: Tensor, intrinsics: Tensor, inverse_intrinsics: Tensor, poses: Tensor
) -> tuple[Tensor, Tensor]:
    """Synthesise the target view from each source.

    Args:
        sources: (B, S, C, H, W).
        depth: (B, 1, H, W) of the target.
        intrinsics, inverse_intrinsics: (B, 3, 3), shared by all frames of a sample.
        poses: (B, S, 4, 4), from the target's camera space to each source's.

    Returns:
        (B, S, C, H, W) synthesised views; (B, S, H, W) bool, where the pixel lies inside the source's view.
    """
    batch, count, _, height, width = sources.shape
    points = backproject(depth, inverse_intrinsics).repeat_interleave(count, dim=0)
    cameras = intrinsics.repeat_interleave(count, dim=0)
    grid = project(points, cameras, poses.flatten(0, 1), height, width)
    views = F.grid_sample(sources.flatten(0, 1), grid, padding_mode="border", align_corners=True)
    inside = (grid.detach().abs() <= 1).all(dim=-1)
    return views.unflatten(0, (batch, count)), inside.unflatten(0, (batch, count))


def photometric_error(prediction: Tensor, target: Tensor) -> Tensor:
    """0.85 (1 - SSIM) / 2 + 0.15 L1, mean over channels: (N, C, H, W) twice -> (N, H, W)."""
    difference = (prediction - target).abs().mean(dim=1)
    return SSIM_SHARE * ssim(prediction, target).mean(dim=1) + (1 - SSIM_SHARE) * difference


def errors_to_target(views: Tensor, target: Tensor) -> Tensor:
    """Photometric error of each view: (B, S, C, H, W), (B, C, H, W) -> (B, S, H, W)."""
    repeated = target.repeat_interleave(views.shape[1], dim=0)
    return photometric_error(views.flatten(0, 1), repeated).unflatten(0, views.shape[:2])


def reprojection_loss(
    views: Tensor,
    inside: Tensor,
    sources: Tensor,
    present: Tensor,
    target: Tensor,
    auto_mask: bool = True,
) -> tuple[Tensor, Tensor]:
    """Photometric loss with the minimum over sources and auto-masking.

    The minimum over sources bears with what is hidden in one of them. Where a source fits better as it is
    than warped, the pixel does not move against the camera (a car ahead at the camera's speed, a standing
    camera, the sky): the identity's error wins the minimum and no gradient flows.

    Args:
        views, inside: from `warp`.
        sources: (B, S, C, H, W).
        present: (B, S) bool; each sample has at least one source.
        target: (B, C, H, W).
        auto_mask: without it, the identity counts only where no source sees the pixel.

    Returns:
        Scalar loss; scalar share of pixels that fit better warped.
    """
    absent = ~present[:, :, None, None]
    with torch.no_grad():
        identity = errors_to_target(sources, target)
        identity = identity + TIE_BREAK * torch.randn_like(identity)
        identity = identity.masked_fill(absent, torch.inf).amin(dim=1)
    warped = errors_to_target(views, target).masked_fill(absent | ~inside, torch.inf).amin(dim=1)
    better = warped < identity
    used = better if auto_mask else warped.isfinite()
    return torch.where(used, warped, identity).mean(), better.float().mean()


def edge_aware_smoothness(depth: Tensor, image: Tensor) -> Tensor:
    """First differences of the mean-normalised inverse depth, less where the image has edges: a scalar.

    Inverse depth, not depth: over a plane it is linear in the pixel, so a street costs little, and the far
    background with its steps of many metres does not rule the sum.

    Args:
        depth: (B, 1, H, W) positive.
        image: (B, C, H, W) in 0-1.
    """
    inverse = 1 / depth
    inverse = inverse / inverse.mean(dim=(2, 3), keepdim=True)
    across, down = (inverse.diff(dim=dim).abs() for dim in (3, 2))
    weight_across, weight_down = (
        torch.exp(-image.diff(dim=dim).abs().mean(dim=1, keepdim=True)) for dim in (3, 2)
    )
    return (across * weight_across).mean() + (down * weight_down).mean()
