#!/usr/bin/env python3
"""Stage 2 and Stage 3 in one run: training on pseudo-labels, then self-training.

The run folder holds stage2/ and stage3/; --resume goes on in whichever was interrupted.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from cups.builders.stages import train_both_stages
from cups.builders.trainer import add_resume_arguments, prepare_process, resumes, run_directory
from cups.config import add_config_arguments, parse_args
from cups.errors import run_main


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    add_resume_arguments(parser)
    args, config = parse_args(parser, argv)
    prepare_process(config)
    directory = run_directory(config, "hybrid")
    best = train_both_stages(config, directory, resumes(args, directory / "stage2"))
    logging.info("best round: %s", best)
    return 0


if __name__ == "__main__":
    run_main(main)
