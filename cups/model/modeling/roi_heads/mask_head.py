"""Mask head whose logits leave it in 32 bits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from torch import Tensor

from cups.ops.precision import full_precision, widen


def mask_loss(logits: Tensor, instances: list[Instances]) -> Tensor:
    """Return the mean binary cross-entropy of each region's mask of its own class.

    As detectron2's, without the statistics for which it makes a GPU wait four times a step.

    Args:
        logits: (R, T, M, M), or (R, 1, M, M) of a head that knows no classes.
        instances: per image the regions, R in all: `proposal_boxes`, `gt_classes` and `gt_masks`.
    """
    found = [item for item in instances if len(item)]
    if not found:
        return logits.sum() * 0
    masks = [
        item.gt_masks.crop_and_resize(item.proposal_boxes.tensor, logits.shape[-1]).to(logits.device)
        for item in found
    ]
    classes = torch.cat([item.gt_classes for item in found]).to(logits.device)
    if logits.shape[1] == 1:
        classes = torch.zeros_like(classes)
    chosen = logits[torch.arange(len(logits), device=logits.device), classes]
    return F.binary_cross_entropy_with_logits(chosen, torch.cat(masks).to(chosen.dtype))


@ROI_MASK_HEAD_REGISTRY.register()
class CustomMaskHead(MaskRCNNConvUpsampleHead):
    """detectron2's mask head; its convolutions may be narrow, its masks are not.

    Pasting a mask samples it at coordinates in the mask's own number format: in bfloat16 they are off by up
    to 0.4 % of the box.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, **kwargs: Any) -> None:
        super().__init__(input_shape, **kwargs)

    def layers(self, x: Tensor) -> Tensor:
        """Return mask logits (R, T, 2P, 2P) of pooled features (R, C, P, P)."""
        return widen(super().layers(x))

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """Return `loss_mask` in training, else the instances with `pred_masks` (N, 1, M, M) in 0-1."""
        if not self.training:
            return super().forward(x, instances)
        logits = self.layers(x)
        with full_precision(logits.device):
            return {"loss_mask": mask_loss(logits, instances) * self.loss_weight}
