"""The Panoptic Cascade Mask R-CNN on a vision transformer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from cups.defaults import CONFIDENCE_THRESHOLD, FREEZE_BACKBONE, GRADIENT_CHECKPOINTING
from cups.model.model import panoptic_cascade_mask_r_cnn

VIT_CONFIG = "Panoptic-Cascade-Mask-R-CNN-ViTB.yaml"


def vit_overrides(backbone: str, frozen: bool, gradient_checkpointing: bool) -> tuple[Any, ...]:
    """Return KEY VALUE overrides that put a transformer under any of our model configs.

    Args:
        backbone: a name of `cups.backbones.NAMES`.
        frozen: train pyramid and heads alone.
        gradient_checkpointing: keep no activations inside the blocks, compute them twice.
    """
    return (
        *("MODEL.BACKBONE.NAME", "build_vit_backbone"),
        *("MODEL.VIT.NAME", backbone),
        *("MODEL.VIT.FROZEN", frozen),
        *("MODEL.VIT.GRADIENT_CHECKPOINTING", gradient_checkpointing),
    )


def panoptic_cascade_mask_r_cnn_vitb(
    num_clusters_things: int,
    num_clusters_stuffs: int,
    confidence_threshold: float = CONFIDENCE_THRESHOLD,
    *,
    backbone: str = "dinov2_vitb14",
    frozen: bool = FREEZE_BACKBONE,
    gradient_checkpointing: bool = GRADIENT_CHECKPOINTING,
    model_config: str | Path = VIT_CONFIG,
    model_overrides: Sequence[Any] = (),
    **options: Any,
) -> nn.Module:
    """Build the network of `panoptic_cascade_mask_r_cnn` on a DINOv2 or DINOv3 transformer.

    Args:
        num_clusters_things, num_clusters_stuffs, confidence_threshold: see there.
        backbone, frozen, gradient_checkpointing: see `vit_overrides`.
        model_config, model_overrides: see there.
        options: its other keywords; `backbone_checkpoint` is the file of the transformer's publisher.
    """
    overrides = (*vit_overrides(backbone, frozen, gradient_checkpointing), *model_overrides)
    return panoptic_cascade_mask_r_cnn(
        num_clusters_things,
        num_clusters_stuffs,
        confidence_threshold,
        model_config=model_config,
        model_overrides=overrides,
        **options,
    )
