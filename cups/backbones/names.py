"""Names of the backbones, without what it takes to build one."""

from __future__ import annotations

NAMES: tuple[str, ...] = (
    "texton",
    "dinov2_vits14",
    "dinov2_vitb14",
    "dinov2_vitl14",
    "dinov3_vits16",
    "dinov3_vitb16",
)
