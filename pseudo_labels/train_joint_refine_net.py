"""Train JointRefineNet: refined semantics, boundaries and instance embeddings at once, without labels."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cups.errors import run_main
from pseudo_labels.inputs.labels import DEFAULT_METHOD, INSTANCE_PREFIX
from pseudo_labels.joint_refine_net import JointRefineNet
from pseudo_labels.networks.joint_refine_training import JointFit, JointFrames
from pseudo_labels.networks.refine_training import build_parser, run_training
from pseudo_labels.steps.arguments import require_at_least_one
from pseudo_labels.steps.step import Folder, list_frames, output_root

SCRIPT = "train_joint_refine_net"


def build_joint_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = build_parser(__doc__ or "")
    joint = parser.add_argument_group("joint heads")
    joint.add_argument(
        "--instance_subdir", default=INSTANCE_PREFIX + DEFAULT_METHOD, help="pseudo-instances to embed"
    )
    joint.add_argument("--embedding_dim", type=int, default=8, help="channels of the instance embedding")
    joint.add_argument("--boundary_weight", type=float, default=0.5, help="weight of the boundary loss")
    joint.add_argument("--embedding_weight", type=float, default=0.1, help="weight of the embedding loss")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_joint_parser().parse_args(argv)
    require_at_least_one(args, "embedding_dim")
    instances = Folder(Path(output_root(args)), args.instance_subdir, ".png")
    instances.require(list_frames(args), "run generate_depth_guided_instances.py, or give --instance_subdir")
    run_training(
        args,
        SCRIPT,
        JointRefineNet,
        JointFit,
        partial(JointFrames, instances=instances),
        shape={"embedding_dim": args.embedding_dim},
        inputs=[instances.directory],
    )
    return 0


if __name__ == "__main__":
    run_main(main)
