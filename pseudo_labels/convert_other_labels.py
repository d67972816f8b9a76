"""Stage 1: pseudo-labels of another tool to the flat training format of CUPS (Hahn et al., CVPR 2025).

Reads a COCO panoptic set (JSON and PNG), or a folder of class ids with instances beside them, as Cityscapes
has them. Nothing is known of how they were made, unless a `provenance.json` beside them says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.labels import OtherLabelSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import FrameRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, FrameRun, OtherLabelSettings)
    from pseudo_labels.generators.other_labels import convert_labels  # after parsing: --help is quick

    convert_labels(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
