"""Resizing and cropping: one geometric rule for images and labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_image(image: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    """Resize (..., C, H, W) float bilinearly to `size` (H, W); half-pixel centres."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    batched = image.reshape(-1, *image.shape[-3:])
    out = F.interpolate(batched, size=size, mode="bilinear", align_corners=False, antialias=antialias)
    return out.reshape(*image.shape[:-2], *size)


def resize_ids(ids: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (..., H, W) integer or bool ids by the nearest pixel to `size` (H, W).

    Half-pixel correct ("nearest-exact"), so labels stay aligned with a bilinearly resized image: plain
    "nearest" shifts them by up to 0.3 pixels at scale 0.625.
    """
    height, width = ids.shape[-2:]
    if (height, width) == tuple(size):
        return ids
    rows = nearest_indices(height, size[0], ids.device)
    columns = nearest_indices(width, size[1], ids.device)
    return ids[..., rows[:, None], columns]


def nearest_indices(source: int, target: int, device: torch.device | str = "cpu") -> Tensor:
    """Return (target,) int64: for each output pixel centre the index of the source pixel that holds it."""
    # Integer arithmetic: floor((i + 0.5) * source / target) without rounding error.
    return (torch.arange(target, device=device) * 2 + 1) * source // (2 * target)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return (H, W) of an image of `size` after `scale`, rounded to whole pixels."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def center_crop_or_pad(tensor: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """Crop (..., H, W) around its centre to `size`; where it is smaller, pad evenly with `fill`.

    Offsets depend on the sizes alone, so an image and its labels of the same size move alike.
    """
    height, width = tensor.shape[-2:]
    top, left = max(0, (height - size[0]) // 2), max(0, (width - size[1]) // 2)
    cropped = tensor[..., top : top + size[0], left : left + size[1]]
    missing_h, missing_w = size[0] - cropped.shape[-2], size[1] - cropped.shape[-1]
    if missing_h == 0 and missing_w == 0:
        return cropped
    pads = (missing_w // 2, missing_w - missing_w // 2, missing_h // 2, missing_h - missing_h // 2)
    return F.pad(cropped, pads, value=fill)
