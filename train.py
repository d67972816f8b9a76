#!/usr/bin/env python3
"""Stage 2: train the Panoptic Cascade Mask R-CNN on pseudo-labels."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from cups.builder import build_module, build_training_data, build_validation_data
from cups.config import add_config_arguments, parse_args
from cups.errors import run_main
from cups.lightning import last_checkpoint
from cups.trainer import TrainingData, add_resume_arguments, fit, prepare_process, run_directory


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    add_resume_arguments(parser)
    args, config = parse_args(parser, argv)
    prepare_process(config)

    train, validation = build_training_data(config), build_validation_data(config)
    logging.info(
        "%d training frames, %d validation frames; %d thing and %d stuff pseudo-classes",
        len(train), len(validation), len(train.split.things), len(train.split.stuffs),
    )  # fmt: skip
    module = build_module(config, train)
    directory = run_directory(config)
    resume = args.resume or (args.resume_if_possible and last_checkpoint(directory).exists())
    fit(module, TrainingData(train, validation, config), config, directory, resume)
    return 0


if __name__ == "__main__":
    run_main(main)
