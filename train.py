#!/usr/bin/env python3
"""Stage 2: train the Panoptic Cascade Mask R-CNN on pseudo-labels."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

import pytorch_lightning as pl
import torch

from cups.builder import build_module, build_training_data, build_validation_data
from cups.config import add_config_arguments, parse_args
from cups.errors import run_main
from cups.lightning import last_checkpoint, save_last_step
from cups.trainer import PseudoLabelData, build_trainer, run_directory, start_run


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from last.ckpt of the run named by --log_path and --run_name",
    )
    parser.add_argument(
        "--resume_if_possible",
        action="store_true",
        help="the same, but start afresh where there is no last.ckpt",
    )
    args, config = parse_args(parser, argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pl.seed_everything(config.SYSTEM.SEED, workers=True, verbose=False)
    torch.set_float32_matmul_precision("medium")

    train, validation = build_training_data(config), build_validation_data(config)
    logging.info(
        "%d training frames, %d validation frames; %d thing and %d stuff pseudo-classes",
        len(train), len(validation), len(train.split.things), len(train.split.stuffs),
    )  # fmt: skip
    module = build_module(config, train)
    directory = run_directory(config)
    resume = args.resume or (args.resume_if_possible and last_checkpoint(directory).exists())
    checkpoint = start_run(config, directory, resume)
    trainer = build_trainer(config, directory)
    trainer.fit(module, PseudoLabelData(train, validation, config), ckpt_path=checkpoint, weights_only=True)
    save_last_step(trainer, directory)
    logging.info("finished at step %d; checkpoints in %s", trainer.global_step, directory / "checkpoints")
    return 0


if __name__ == "__main__":
    run_main(main)
