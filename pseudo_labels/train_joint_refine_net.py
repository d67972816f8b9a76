"""Train JointRefineNet: refined semantics, boundaries and instance embeddings at once, without labels."""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.refinement import TrainJointRefineSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import TrainingRun, parse_whole


def main(argv: Sequence[str] | None = None) -> int:
    """Train."""
    source, run, settings = parse_whole(__doc__, argv, TrainingRun, TrainJointRefineSettings)
    from pseudo_labels.networks.joint_refine_training import train_joint_refine_net  # --help is quick

    train_joint_refine_net(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
