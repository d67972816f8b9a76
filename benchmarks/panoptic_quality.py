"""Time and memory of panoptic quality: ours, the paper's definition, torchmetrics and hotcoco on the same
street-like maps, in one run.

    python benchmarks/panoptic_quality.py --images 3 --json panoptic_quality.json

Each row runs in a process of its own, so that its peak memory is its own. hotcoco is optional: pip install
hotcoco.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.steps.flags import parse
from studies.benchmarks.settings import QualitySettings


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    (settings,) = parse(__doc__, argv, QualitySettings)
    from studies.benchmarks.panoptic_quality import compare  # after parsing: --help is quick

    return compare(settings)


if __name__ == "__main__":
    run_main(main)
