#!/usr/bin/env python3
"""Stage 2: train the Panoptic Cascade Mask R-CNN on pseudo-labels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cups.builders.stages import train_on_pseudo_labels
from cups.builders.trainer import add_resume_arguments, prepare_process, resumes, run_directory
from cups.config import add_config_arguments, parse_args
from cups.errors import run_main


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    add_resume_arguments(parser)
    args, config = parse_args(parser, argv)
    prepare_process(config)
    directory = run_directory(config)
    train_on_pseudo_labels(config, directory, resumes(args, directory))
    return 0


if __name__ == "__main__":
    run_main(main)
