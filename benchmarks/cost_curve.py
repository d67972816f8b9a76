"""Time and memory of the parts against the size of frames, clusters and frames, as a page of the docs.

    python benchmarks/cost_curve.py --runs runs/cost_curve --output docs/performance.md

Each point is measured in a process of its own; a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.steps.flags import parse
from studies.benchmarks.settings import CostSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and write the page."""
    (settings,) = parse(__doc__, argv, CostSettings)
    from studies.benchmarks.cost_curve import measure_all  # after parsing: --help is quick

    return measure_all(settings)


if __name__ == "__main__":
    run_main(main)
