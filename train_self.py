#!/usr/bin/env python3
"""Stage 3: self-training of a Stage-2 network (--checkpoint) on unlabelled images.

Reads images only; ground truth serves validation, and the choice of the round with SELF_TRAINING.SELECT val.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from cups.builders.stages import train_on_own_labels
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
    directory = run_directory(config, "self")
    best = train_on_own_labels(config, directory, resumes(args, directory))
    logging.info("best round: %s", best)
    return 0


if __name__ == "__main__":
    run_main(main)
