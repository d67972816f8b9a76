"""Box predictor with DropLoss (Wang et al., "Cut and Learn", CVPR 2023, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.layers import cat
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cups.model.modeling.roi_heads.labelling import Truth
from cups.model.modeling.sampling import pairwise_ious
from cups.ops.precision import full_precision


@torch.no_grad()
def drop_weights(predicted: list[Tensor], truth: Truth, iou_threshold: float) -> Tensor:
    """Return the weight, 0 or 1, of each proposal's classification loss.

    Pseudo-labels miss objects, so a proposal far from all of them may well be an object: it must not be
    taught to be background. An image without any box gives no evidence at all, so all its weights are 0.

    Args:
        predicted: per image (R_i, 4) decoded boxes, XYXY pixels.
        truth: the objects of the same images, possibly none.
        iou_threshold: weight 0 up to and including this best IoU.

    Returns:
        (sum of R_i,) float32.
    """
    boxes = pad_sequence([item.float() for item in predicted], batch_first=True)
    best = pairwise_ious(truth.boxes.float(), boxes).masked_fill(~truth.exists[..., None], 0).amax(dim=1)
    weights = (best > iou_threshold).float()
    return torch.cat([row[: len(item)] for row, item in zip(weights, predicted, strict=True)])


class CustomFastRCNNOutputLayers(FastRCNNOutputLayers):
    """Class scores and class-agnostic box deltas of one cascade stage."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (R, T+1) and deltas (R, 4) of features (R, D), in the format of the weights.

        Under autocast too: in bfloat16 a score near 1 has steps of 0.4 %, so that many detections tie.
        """
        with full_precision(x.device):
            predictions: tuple[Tensor, Tensor] = super().forward(x.to(self.cls_score.weight.dtype))
        return predictions

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances], weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_box_reg`.

        Args:
            predictions: class logits (R, T+1), last one background, and deltas (R, 4).
            proposals: per image, with `proposal_boxes`, `gt_classes` and, if it has objects, `gt_boxes`.
            weights: (R,) of `drop_weights`, or None. The mean is over all R, whatever their weights.
        """
        scores, deltas = predictions
        classes = cat([p.gt_classes for p in proposals])
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        targets = cat([(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals])
        losses = F.cross_entropy(scores.float(), classes, reduction="none")
        if weights is not None:
            losses = losses * weights
        named = {
            "loss_cls": losses.sum() / max(len(classes), 1),
            "loss_box_reg": self.box_reg_loss(boxes, targets, deltas, classes),
        }
        return {name: value * self.loss_weight.get(name, 1.0) for name, value in named.items()}
