"""Stage 1: which pseudo-classes are things, from semantics and depth alone, without labels.

A thing stands on the street in front of what is behind it and has the size of a road user. Depth shows such
regions without any class (`cups.ops.ground`); the score of a pseudo-class is the share of its pixels inside
them. The other statistics are printed and stored so that a person sees why.
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.thing_stuff import StatisticRun, ThingStuffSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import parse_whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_whole(__doc__, argv, StatisticRun, ThingStuffSettings)
    from pseudo_labels.generators.thing_stuff import split_things  # after parsing: --help is quick

    print(split_things(source, settings, run))
    return 0


if __name__ == "__main__":
    run_script(main)
