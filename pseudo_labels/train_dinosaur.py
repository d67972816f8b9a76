"""Train DINOSAUR: slot attention that reconstructs the patch features of a frozen network, without labels.

Reads `features_{backbone}/`; writes `dinosaur.pth`, which generate_dinosaur_instances.py takes, and pictures
of the slots' masks in `media/`. The defaults are those of the paper for a transformer's features.
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.dinosaur import TrainDinosaurSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import TrainingRun, parse_whole


def main(argv: Sequence[str] | None = None) -> int:
    """Train."""
    source, run, settings = parse_whole(__doc__, argv, TrainingRun, TrainDinosaurSettings)
    from pseudo_labels.networks.dinosaur_training import train_dinosaur  # after parsing: --help is quick

    train_dinosaur(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
