"""Time and memory of an evaluation on rendered streets, and the share of the time that the network takes.

    python benchmarks/evaluation.py --images 4 --checkpoint run/checkpoints/last.ckpt

Frames are read, predicted, scored and written as `val.py --visualize_results` does, without its pictures.
Without a checkpoint the network has random weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.steps.flags import parse
from studies.benchmarks.settings import EvaluationSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the numbers."""
    (settings,) = parse(__doc__, argv, EvaluationSettings)
    from studies.benchmarks.evaluation import measure  # after parsing: --help is quick

    return measure(settings)


if __name__ == "__main__":
    run_main(main)
