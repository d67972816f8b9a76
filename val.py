#!/usr/bin/env python3
"""Evaluate a checkpoint (PQ, SQ, RQ, mIoU, accuracy), or predict on a plain folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cups.config import VAL_FLAGS, add_config_arguments, make_parser, parse_args
from cups.errors import run_main


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add_config_arguments(parser, VAL_FLAGS)
    parser.add_argument("--output_dir", type=Path, help="results (default: LOG_PATH/RUN_NAME)")
    parser.add_argument("--image_dir", type=Path, help="predict on this folder of images; needs no labels")
    parser.add_argument("--visualize_results", action="store_true", help="write an overlay of every frame")
    args, config = parse_args(parser, argv)
    from cups.builders.scoring import evaluate, predict_images
    from cups.evaluation.results import results_report

    if args.image_dir:
        predict_images(config, args.image_dir, args.output_dir)
    else:
        print(results_report(evaluate(config, args.output_dir, args.visualize_results)))
    return 0


if __name__ == "__main__":
    run_main(main)
