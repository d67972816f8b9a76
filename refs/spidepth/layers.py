"""Geometry and photometry of view synthesis (Godard et al., ICCV 2019, section 3.1), as pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
_TINY = 1e-7


def backproject(depth: Tensor, inverse_intrinsics: Tensor) -> Tensor:
    """Lift pixels to camera space: (B, 1, H, W) depth, (B, 3, 3) -> points (B, 3, H*W).

    Pixel centres have integer coordinates, (0, 0) at the top left.
    """
    height, width = depth.shape[-2:]
    v, u = torch.meshgrid(
        torch.arange(height, device=depth.device, dtype=depth.dtype),
        torch.arange(width, device=depth.device, dtype=depth.dtype),
        indexing="ij",
    )
    pixels = torch.stack((u.flatten(), v.flatten(), torch.ones_like(u).flatten()))
    return (inverse_intrinsics @ pixels) * depth.flatten(2)


def project(points: Tensor, intrinsics: Tensor, pose: Tensor, height: int, width: int) -> Tensor:
    """Project points (B, 3, H*W) into a second camera: a grid (B, H, W, 2) for `grid_sample`.

    Args:
        intrinsics: (B, 3, 3) of the second camera.
        pose: (B, 4, 4), from the first camera's space to the second's.

    Returns:
        Coordinates (x, y) with -1 and 1 at the centres of the border pixels (`align_corners=True`).
    """
    moved = pose[:, :3, :3] @ points + pose[:, :3, 3:]
    image = intrinsics @ moved
    pixels = image[:, :2] / image[:, 2:].clamp(min=_TINY)
    size = pixels.new_tensor([width - 1, height - 1])[:, None]
    return (2 * pixels / size - 1).transpose(1, 2).unflatten(1, (height, width))


def rotation(axis_angle: Tensor) -> Tensor:
    """Axis-angle (B, 3), radians -> rotation matrices (B, 3, 3) (Rodrigues' formula)."""
    x, y, z = axis_angle.unbind(1)
    zero = torch.zeros_like(x)
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=1).unflatten(1, (3, 3))
    return torch.linalg.matrix_exp(skew)


def transformation(axis_angle: Tensor, translation: Tensor, invert: bool = False) -> Tensor:
    """Axis-angle (B, 3) and translation (B, 3) -> rigid motion (B, 4, 4), or its inverse."""
    turn, shift = rotation(axis_angle), translation[:, :, None]
    if invert:
        turn = turn.transpose(1, 2)
        shift = -turn @ shift
    last = turn.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(turn), 1, 4)
    return torch.cat((torch.cat((turn, shift), dim=2), last), dim=1)


def _mean_3x3(x: Tensor) -> Tensor:
    """Mean over 3 x 3 windows, (..., H, W) -> (..., H - 2, W - 2); on a CPU far faster than `avg_pool2d`."""
    rows = x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural dissimilarity (1 - SSIM) / 2 over 3 x 3 windows: (B, C, H, W) twice -> the same, in 0-1."""
    x, y = F.pad(x, (1, 1, 1, 1), mode="reflect"), F.pad(y, (1, 1, 1, 1), mode="reflect")
    mean_x, mean_y = _mean_3x3(x), _mean_3x3(y)
    var_x = _mean_3x3(x**2) - mean_x**2
    var_y = _mean_3x3(y**2) - mean_y**2
    covariance = _mean_3x3(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    bottom = (mean_x**2 + mean_y**2 + SSIM_C1) * (var_x + var_y + SSIM_C2)
    return ((1 - top / bottom) / 2).clamp(0, 1)
