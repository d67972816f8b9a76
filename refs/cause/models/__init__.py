"""Backbones of CAUSE."""

from refs.cause.models.dinov2 import DinoVisionTransformer, dinov2_vit

__all__ = ["DinoVisionTransformer", "dinov2_vit"]
