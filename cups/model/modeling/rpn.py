"""Region proposal network whose anchors never match a ground-truth box that they do not touch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import _dense_box_regression_loss
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor

from cups.model.modeling.sampling import draws_together, sample, threshold_labels, top_proposals
from cups.ops.precision import full_precision, widen


class TouchingMatcher(Matcher):
    """Matcher whose low-quality matches (each box's best anchors become positive) need an overlap above zero.

    The plain rule takes every anchor that reaches a box's best quality. For a box that no anchor touches, or
    one without area, the best is zero, so all the image's anchors of quality zero would become positive.
    """

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Match as detectron2 does, without its check that no IoU is negative, for which a GPU waits.

        Args:
            match_quality_matrix: (M, A) float IoU of boxes and anchors.

        Returns:
            (A,) int64, the best box of each anchor, and (A,) int8, its label: 1, 0 or -1 (left out).
        """
        if match_quality_matrix.numel() == 0:
            nothing: tuple[Tensor, Tensor] = super().__call__(match_quality_matrix)
            return nothing
        quality, matches = match_quality_matrix.max(dim=0)
        labels = threshold_labels(quality, self)
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(labels, match_quality_matrix)
        return matches, labels

    def set_low_quality_matches_(self, match_labels: Tensor, match_quality_matrix: Tensor) -> None:
        """Set labels of each box's best anchors to 1, in place.

        Args:
            match_labels: (A,) int8, changed in place.
            match_quality_matrix: (M, A) float IoU of boxes and anchors.
        """
        best = match_quality_matrix.amax(dim=1, keepdim=True)
        chosen = (match_quality_matrix == best) & (best > 0)
        match_labels[chosen.any(dim=0)] = 1


@PROPOSAL_GENERATOR_REGISTRY.register()
class CustomRPN(RPN):
    """detectron2's RPN with the `TouchingMatcher`, whose losses and proposals are made in float32."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Translate the config (detectron2's protocol)."""
        arguments = super().from_config(cfg, input_shape)
        arguments["anchor_matcher"] = TouchingMatcher(
            cfg.MODEL.RPN.IOU_THRESHOLDS, cfg.MODEL.RPN.IOU_LABELS, allow_low_quality_matches=True
        )
        return arguments

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return each image's labels (A,) of 1, 0 and -1 (left out), and the boxes (A, 4) they go by."""
        boxes = Boxes.cat(anchors)
        labels, matched = [], []
        for item in gt_instances:
            # Where a GPU lacks the memory, a CPU matches.
            ious = retry_if_cuda_oom(pairwise_iou)(item.gt_boxes, boxes)
            best, label = (part.to(boxes.device) for part in retry_if_cuda_oom(self.anchor_matcher)(ious))
            if self.anchor_boundary_thresh >= 0:
                label[~boxes.inside_box(item.image_size, self.anchor_boundary_thresh)] = -1
            labels.append(label)
            matched.append(item.gt_boxes.tensor[best] if len(item) else torch.zeros_like(boxes.tensor))
        return self._sampled(labels), matched

    def _sampled(self, labels: list[Tensor]) -> list[Tensor]:
        """Keep the labels of the anchors that are drawn. A CPU draws as detectron2 does, image by image."""
        if not draws_together(labels[0]):
            return [self._subsample_labels(label) for label in labels]
        table = torch.stack(labels)
        positive, negative = sample(table == 1, table == 0, self.batch_size_per_image, self.positive_fraction)
        return list(torch.where(positive, 1, torch.where(negative, 0, -1)).to(table.dtype))

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return `loss_rpn_cls` and `loss_rpn_loc`; arguments and values as in detectron2's `RPN.losses`.

        The targets of an anchor's box are computed where they are learnt, not for all anchors of all images.
        """
        logits, deltas = (
            torch.cat([widen(level) for level in levels], dim=1)
            for levels in (pred_objectness_logits, pred_anchor_deltas)
        )
        labels = torch.stack(gt_labels)
        image, anchor = (labels == 1).nonzero(as_tuple=True)
        used = (labels >= 0).nonzero(as_tuple=True)
        with full_precision(logits.device):
            location = _dense_box_regression_loss(
                [Boxes(Boxes.cat(anchors).tensor[anchor])],
                self.box2box_transform,
                [deltas[image, anchor][None]],
                [torch.stack(gt_boxes)[image, anchor]],
                0,  # instead of a mask: all of the one image that these make up
                box_reg_loss_type=self.box_reg_loss_type,
                smooth_l1_beta=self.smooth_l1_beta,
            )
            objectness = F.binary_cross_entropy_with_logits(
                logits[used], labels[used].to(logits.dtype), reduction="sum"
            )
        normalizer = self.batch_size_per_image * len(labels)
        losses = {"loss_rpn_cls": objectness / normalizer, "loss_rpn_loc": location / normalizer}
        return {name: value * self.loss_weight.get(name, 1.0) for name, value in losses.items()}

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Return each image's proposals; arguments as in detectron2's `RPN.predict_proposals`."""
        logits, deltas = ([widen(level) for level in x] for x in (pred_objectness_logits, pred_anchor_deltas))
        with full_precision(logits[0].device):
            if draws_together(logits[0]):
                return self._predict_together(anchors, logits, deltas, image_sizes)
            proposals: list[Instances] = super().predict_proposals(anchors, logits, deltas, image_sizes)
        return proposals

    def _predict_together(
        self,
        anchors: list[Boxes],
        logits: list[Tensor],
        deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Return each image's proposals by `top_proposals`: all images at once, and only chosen boxes."""
        count = self.pre_nms_topk[self.training]
        levels = []
        for boxes, scores, moves in zip(anchors, logits, deltas, strict=True):
            best, order = scores.topk(min(count, scores.shape[1]), dim=1)
            moved = self.box2box_transform.apply_deltas(
                moves.gather(1, order[..., None].expand(-1, -1, 4)).flatten(0, 1),
                boxes.tensor[order.flatten()],
            )
            levels.append((moved.view(*order.shape, 4), best))
        return top_proposals(
            levels,
            image_sizes,
            iou=self.nms_thresh,
            count=self.post_nms_topk[self.training],
            min_side=self.min_box_size,
            training=self.training,
        )
