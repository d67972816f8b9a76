"""Semantic cross-entropy over logits that are coarser than the labels, in little memory.

At image size, logits of 28 channels for 16 crops of 640x1280 fill 1.5 GB, those of 300 overclusters 16 GB.
Autograd keeps several such tensors. Here the image is passed in strips: each is enlarged, scored and turned
into its gradient before the next. The values are those of the whole, up to the order of summation.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

STRIP_ELEMENTS = 2**24
"""Enlarged logits held at a time (64 MB); smaller tensors are enlarged whole."""


def semantic_loss(
    logits: Tensor, targets: Tensor, weights: Tensor | None, ignore_value: int, stride: int = 1
) -> Tensor:
    """Cross-entropy, (weighted) mean over the labelled pixels; 0 with a graph when there are none.

    Args:
        logits: (B, C, H / stride, W / stride) float32, enlarged bilinearly.
        targets: (B, H, W) int64 in 0..C-1 or `ignore_value`.
        weights: (C,) float, weight of each channel (0 is the generic thing class), or None.
    """
    rows = max(1, STRIP_ELEMENTS // (logits.shape[0] * logits.shape[1] * logits.shape[3] * stride**2))
    if rows >= logits.shape[2] or stride == 1:
        total = _sum_of_losses(_enlarge(logits, stride), targets, weights, ignore_value)
    else:
        total = _InStrips.apply(logits, targets, weights, ignore_value, stride, rows)
    labelled = targets != ignore_value
    # Selecting the labelled pixels would make a GPU wait for their number.
    count = labelled.sum() if weights is None else (weights[targets * labelled] * labelled).sum()
    return total / torch.where(count > 0, count, 1)


def _enlarge(logits: Tensor, stride: int) -> Tensor:
    """Return (B, C, H, W); channels lie together in memory, where softmax and interpolation are fastest."""
    logits = logits.contiguous(memory_format=torch.channels_last)
    if stride == 1:
        return logits
    return F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False)


def _sum_of_losses(logits: Tensor, targets: Tensor, weights: Tensor | None, ignore_value: int) -> Tensor:
    flat = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    return F.cross_entropy(
        flat, targets.flatten(), weight=weights, ignore_index=ignore_value, reduction="sum"
    )


class _InStrips(torch.autograd.Function):
    """Sum of losses of logits (B, C, h, w), `rows` of their rows at a time, and its gradient with it."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, weights: Tensor | None, ignore: int, stride: int, rows: int
    ) -> Tensor:
        # One row more on each side of a strip: a repeated border row is what interpolation clamps to.
        padded = F.pad(logits, (0, 0, 1, 1), mode="replicate").contiguous(memory_format=torch.channels_last)
        gradient = torch.zeros_like(padded)
        total = logits.new_zeros(())
        for start in range(0, logits.shape[2], rows):
            end = min(start + rows, logits.shape[2])
            with torch.enable_grad():
                strip = padded[:, :, start : end + 2].detach().requires_grad_()
                pixels = _enlarge(strip, stride)[:, :, stride:-stride]
                labels = targets[:, start * stride : end * stride]
                loss = _sum_of_losses(pixels, labels, weights, ignore)
            total += loss.detach()
            gradient[:, :, start : end + 2] += torch.autograd.grad(loss, strip)[0]
        gradient[:, :, 1] += gradient[:, :, 0]
        gradient[:, :, -2] += gradient[:, :, -1]
        ctx.save_for_backward(gradient[:, :, 1:-1])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None, None, None, None
