#!/usr/bin/env python3
"""Stage 2 and Stage 3 in one run: training on pseudo-labels, then self-training.

The run folder holds stage2/ and stage3/; --resume goes on in whichever was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.config import STAGE2_FLAGS, add_config_arguments, add_resume_arguments, make_parser, parse_args
from cups.errors import run_main


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add_config_arguments(parser, STAGE2_FLAGS)
    add_resume_arguments(parser)
    args, config = parse_args(parser, argv)
    from cups.builders.stages import Resume, run_both_stages

    run_both_stages(config, Resume(args.resume, args.resume_if_possible))
    return 0


if __name__ == "__main__":
    run_main(main)
