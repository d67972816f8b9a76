"""Region proposal network whose anchors never match a ground-truth box that they do not touch."""

from __future__ import annotations

from typing import Any

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.structures import Boxes, Instances
from torch import Tensor

from cups.ops.precision import full_precision, widen


class TouchingMatcher(Matcher):
    """Matcher whose low-quality matches (each box's best anchors become positive) need an overlap above zero.

    The plain rule takes every anchor that reaches a box's best quality. For a box that no anchor touches, or
    one without area, the best is zero, so all the image's anchors of quality zero would become positive.
    """

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

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return `loss_rpn_cls` and `loss_rpn_loc`; arguments as in detectron2's `RPN.losses`."""
        logits, deltas = ([widen(level) for level in x] for x in (pred_objectness_logits, pred_anchor_deltas))
        with full_precision(logits[0].device):
            losses: dict[str, Tensor] = super().losses(anchors, logits, gt_labels, deltas, gt_boxes)
        return losses

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
            proposals: list[Instances] = super().predict_proposals(anchors, logits, deltas, image_sizes)
        return proposals
