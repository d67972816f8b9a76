"""Semantic FPN head with class weights and a loss in little memory that survives images without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor

from cups.model.modeling.meta_arch.semantic_loss import semantic_loss
from cups.ops.precision import widen


@SEM_SEG_HEADS_REGISTRY.register()
class CustomSemSegFPNHead(SemSegFPNHead):
    """Panoptic FPN's semantic branch over S+1 channels: 0 "some thing", 1..S stuff.

    `class_weights` follow the channels, so index 0 is the weight of the generic thing class.
    """

    class_weights: Tensor | None

    @configurable
    def __init__(self, *, class_weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        channels = self.predictor.out_channels
        if class_weights is not None and len(class_weights) != channels:
            raise ValueError(f"{len(class_weights)} class weights for {channels} semantic channels")
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        # Not persistent: the published checkpoints have no such tensor.
        self.register_buffer("class_weights", weights, persistent=False)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Translate the config (detectron2's protocol)."""
        arguments = super().from_config(cfg, input_shape)
        arguments["class_weights"] = cfg.MODEL.SEM_SEG_HEAD.CLASS_WEIGHTS or None
        return arguments

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Return logits (B, S+1, H/4, W/4) in 32 bits: they are enlarged, and compared where classes meet."""
        return widen(super().layers(features))

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return `loss_sem_seg` of logits (B, S+1, H/4, W/4) and targets (B, H, W)."""
        loss = semantic_loss(predictions, targets, self.class_weights, self.ignore_value, self.common_stride)
        return {"loss_sem_seg": loss * self.loss_weight}
