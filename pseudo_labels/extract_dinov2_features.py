"""Patch features of every image by DINOv2 (Oquab et al., TMLR 2024) or the weight-free texton backbone."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.inputs.features import extract, parse_arguments
from pseudo_labels.steps.executor import run_script

SCRIPT = "extract_dinov2_features"
BACKBONES = ("dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14", "texton")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    extract(parse_arguments(argv, __doc__ or "", BACKBONES, default="dinov2_vitb14"), SCRIPT)
    return 0


if __name__ == "__main__":
    run_script(main)
