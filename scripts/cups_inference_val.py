#!/usr/bin/env python3
"""Run a checkpoint over a data set, save its panoptic maps in the COCO panoptic format, and score them.

OUTPUT_DIR/panoptic/ and panoptic.json hold the classes that the pseudo-classes were matched to (ids are
trainIds with 19 classes): what panopticapi and others read. A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Subset

from cups.builders.evaluation import (
    build_metric,
    build_validation_data,
    load_for_evaluation,
    prediction_settings,
    results_of,
)
from cups.builders.trainer import validation_loader
from cups.config import add_config_arguments, parse_args
from cups.data import ImageFolder
from cups.errors import run_main
from cups.evaluation.panoptic_export import PanopticExport
from cups.evaluation.predict import predict, save_to, score_with
from cups.evaluation.results import results_report, write_results


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument("--output_dir", type=Path, required=True, help="predictions and results")
    parser.add_argument("--raw", action="store_true", help="describe the pseudo-classes themselves: raw.json")
    parser.add_argument("--image_dir", type=Path, help="a folder of images without labels; implies --raw")
    args, config = parse_args(parser, argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    model, pseudo = load_for_evaluation(config)
    dataset = ImageFolder(args.image_dir) if args.image_dir else build_validation_data(config)
    export = PanopticExport(args.output_dir, dataset.images, pseudo)
    export.claim(prediction_settings(config, args.image_dir))
    missing = export.missing()
    logging.info("%d of %d frames to predict", len(missing), len(dataset))
    if missing:
        loader = validation_loader(Subset(dataset, missing), config)
        predict(model, loader, pseudo, [save_to(export.raw, pseudo)], len(loader))

    results = []
    if args.image_dir is None:
        metric = build_metric(config, pseudo)
        loader = validation_loader(dataset, config)
        export.replay(loader, score_with(metric), len(loader))
        results = results_of(metric, [], config)
        write_results(args.output_dir / "results", results)
        print(results_report(results))
    if args.raw or args.image_dir:
        logging.info("pseudo-classes: %s", export.write_raw_json())
    if results:
        path = export.write_mapped(np.array(results[0].assignment), dataset.classes)
        logging.info("classes: %s", path)
    return 0


if __name__ == "__main__":
    run_main(main)
