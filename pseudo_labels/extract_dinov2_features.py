"""Stage 1: patch features of every image by DINOv2 (Oquab et al., 2024), or by textons without weights."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.features import FeatureSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import NetworkRun, parse_step

SCRIPT = "extract_dinov2_features"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, NetworkRun, FeatureSettings)
    from pseudo_labels.generators.features import make_features  # after parsing: --help is quick

    make_features(source, settings, run, SCRIPT)
    return 0


if __name__ == "__main__":
    run_script(main)
