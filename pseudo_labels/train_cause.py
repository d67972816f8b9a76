"""Stage 1: train the CAUSE heads on a backbone, without labels: codebook, decoder, cluster probe."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.cause import CauseTraining
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import TrainingRun, parse_whole


def main(argv: Sequence[str] | None = None) -> int:
    """Train."""
    source, run, settings = parse_whole(__doc__, argv, TrainingRun, CauseTraining)
    from pseudo_labels.networks.cause_training import train_cause  # after parsing: --help is quick

    train_cause(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
