"""Train JointRefineNet: refined semantics, boundaries and instance embeddings at once, without labels."""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.settings.refinement import TrainJointRefineSettings
from pseudo_labels.steps.flags import parse
from pseudo_labels.steps.frames import FrameSource
from pseudo_labels.steps.options import RunOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Train."""
    source, run, settings = parse(__doc__, argv, FrameSource, RunOptions, TrainJointRefineSettings)
    from pseudo_labels.networks.joint_refine_training import train_joint_refine_net  # --help is quick

    train_joint_refine_net(source, settings, run)
    return 0


if __name__ == "__main__":
    run_main(main)
