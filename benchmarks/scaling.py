"""Scaling of Stage 1: wall time of each step with one worker process and with several, on a quiet machine.

    python benchmarks/scaling.py --workers 2

Each step reads and writes files as its script does: overclusters from codes, instances, conversion to the
CUPS format, texton features. Both numbers of workers take turns, and the best run of each counts. Other work
on the machine makes the numbers worthless: its load is printed beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.steps.flags import parse
from studies.benchmarks.settings import ScalingSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    (settings,) = parse(__doc__, argv, ScalingSettings)
    from studies.benchmarks.scaling import compare  # after parsing: --help is quick

    return compare(settings)


if __name__ == "__main__":
    run_main(main)
