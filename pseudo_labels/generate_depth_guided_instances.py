"""Stage 1: instance masks, by splitting the regions of thing classes along depth edges.

`--no_depth` gives the baseline, plain connected components.
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.labels import InstanceSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import FrameRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, FrameRun, InstanceSettings)
    from pseudo_labels.generators.instances import make_instances  # after parsing: --help is quick

    make_instances(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
