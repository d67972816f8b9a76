#!/usr/bin/env python3
"""Stage 2: train the Panoptic Cascade Mask R-CNN on pseudo-labels.

With --ground_truth it learns from a share of a data set's labels instead (docs/label_efficient.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.config import TRAIN_FLAGS, add_config_arguments, add_resume_arguments, make_parser, parse_args
from cups.errors import run_main


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add_config_arguments(parser, TRAIN_FLAGS, "train.py")
    add_resume_arguments(parser)
    args, config = parse_args(parser, argv)
    from cups.builders.stages import Resume, run_stage2

    run_stage2(config, Resume(args.resume, args.resume_if_possible))
    return 0


if __name__ == "__main__":
    run_main(main)
