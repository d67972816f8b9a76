"""Stage 1: semantic and instance maps to COCO panoptic PNG files and one JSON per split."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.labels import PanopticSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import FrameRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, FrameRun, PanopticSettings)
    from pseudo_labels.generators.panoptic import make_panoptic  # after parsing: --help is quick

    make_panoptic(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
