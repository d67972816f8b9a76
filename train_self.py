#!/usr/bin/env python3
"""Stage 3: self-training of a Stage-2 network (--checkpoint) on unlabelled images.

Reads images only; ground truth serves validation, and the choice of the round with SELF_TRAINING.SELECT val.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.config import STAGE3_FLAGS, add_config_arguments, add_resume_arguments, make_parser, parse_args
from cups.errors import run_main


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add_config_arguments(parser, STAGE3_FLAGS, "train_self.py")
    add_resume_arguments(parser)
    args, config = parse_args(parser, argv)
    from cups.builders.stages import Resume, run_stage3

    run_stage3(config, Resume(args.resume, args.resume_if_possible))
    return 0


if __name__ == "__main__":
    run_main(main)
