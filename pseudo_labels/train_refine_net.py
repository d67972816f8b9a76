"""Train CSCMRefineNet to refine semantic pseudo-labels by features, depth and the image, without labels."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.refinement import TrainRefineSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import TrainingRun, parse_whole


def main(argv: Sequence[str] | None = None) -> int:
    """Train."""
    source, run, settings = parse_whole(__doc__, argv, TrainingRun, TrainRefineSettings)
    from pseudo_labels.networks.refine_training import train_refine_net  # after parsing: --help is quick

    train_refine_net(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
