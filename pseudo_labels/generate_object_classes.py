"""Stage 1: classes of things by whole objects, clustered by size in the world, shape, and what they show.

A cluster of pixels does not tell a car from a truck; size and shape do. Outlines are brought to the edges of
the image. Stuff stays as it is. No labels are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.labels import ObjectSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import FrameRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, FrameRun, ObjectSettings)
    from pseudo_labels.generators.object_classes import make_object_classes  # after parsing: --help is quick

    make_object_classes(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
