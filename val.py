#!/usr/bin/env python3
"""Evaluate a checkpoint (PQ, SQ, RQ, mIoU, accuracy), or predict on a plain folder of images."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cups.builders.evaluation import (
    build_metric,
    build_semantic_scorers,
    build_validation_data,
    load_for_evaluation,
    results_of,
)
from cups.builders.trainer import run_directory, validation_loader
from cups.config import add_config_arguments, parse_args
from cups.data import ImageFolder
from cups.errors import run_main
from cups.evaluation.predict import predict, save_to, score_with, write_overlays
from cups.evaluation.results import results_report, write_results


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument("--output_dir", type=Path, help="results (default: LOG_PATH/RUN_NAME)")
    parser.add_argument("--image_dir", type=Path, help="predict on this folder of images; needs no labels")
    parser.add_argument("--visualize_results", action="store_true", help="write an overlay of every frame")
    args, config = parse_args(parser, argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    model, pseudo = load_for_evaluation(config)
    output = args.output_dir or run_directory(config, "val")
    predictions = output / "predictions"
    dataset = ImageFolder(args.image_dir) if args.image_dir else build_validation_data(config)
    metric = None if args.image_dir else build_metric(config, pseudo)

    scorers = [] if args.image_dir else build_semantic_scorers(config, pseudo)
    visitors = [*scorers]
    if args.image_dir or args.visualize_results:
        visitors.append(save_to(predictions, pseudo))
    if metric is not None:
        visitors.append(score_with(metric))
    loader = validation_loader(dataset, config)
    predict(model, loader, pseudo, visitors, len(loader))

    results = []
    if metric is not None:
        results = results_of(metric, scorers, config)
        write_results(output / "results", results)
        print(results_report(results))
    if args.image_dir or args.visualize_results:
        classes = None if args.image_dir else dataset.classes
        assignment = np.array(results[0].assignment) if results else None
        write_overlays(dataset, predictions, output / "overlays", pseudo, classes, assignment)
    logging.info("results: %s", output)
    return 0


if __name__ == "__main__":
    run_main(main)
