"""Names of the backbones, for command lines and configurations: this module loads no network."""

from __future__ import annotations

TEXTON = "texton"
"""The backbone that has no weights."""
DINOV2_NAMES = (
    "dinov2_vits14",
    "dinov2_vitb14",
    "dinov2_vitl14",
    "dinov2_vits14_reg",
    "dinov2_vitb14_reg",
    "dinov2_vitl14_reg",
)
"""`_reg`: with four register tokens (Darcet et al., ICLR 2024)."""
DINOV3_NAMES = ("dinov3_vits16", "dinov3_vitb16", "dinov3_vitl16")
NAMES = (TEXTON, *DINOV2_NAMES, *DINOV3_NAMES)
DEFAULT_DINOV2 = "dinov2_vitb14"
DEFAULT_DINOV3 = "dinov3_vitb16"
