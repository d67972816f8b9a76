"""Stage 1: patch features of every image by DINOv3 (Siméoni et al., 2025)."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.features import DinoV3Settings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import NetworkRun, parse_step

SCRIPT = "extract_dinov3_features"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, NetworkRun, DinoV3Settings)
    from pseudo_labels.generators.features import make_features  # after parsing: --help is quick

    make_features(source, settings, run, SCRIPT)
    return 0


if __name__ == "__main__":
    run_script(main)
