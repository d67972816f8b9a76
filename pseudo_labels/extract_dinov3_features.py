"""Patch features of every image by DINOv3 (Siméoni et al., 2025)."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.inputs.features import extract, parse_arguments
from pseudo_labels.steps.executor import run_script

SCRIPT = "extract_dinov3_features"
BACKBONES = ("dinov3_vits16", "dinov3_vitb16")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    extract(parse_arguments(argv, __doc__ or "", BACKBONES, default="dinov3_vitb16"), SCRIPT)
    return 0


if __name__ == "__main__":
    run_script(main)
