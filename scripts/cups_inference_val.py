#!/usr/bin/env python3
"""Run a checkpoint over a data set, save its panoptic maps in the COCO panoptic format, and score them.

OUTPUT_DIR/panoptic/ and panoptic.json hold the classes that the pseudo-classes were matched to (ids are
trainIds with 19 classes): what panopticapi and others read. A killed run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.allowed import read_path
from cups.config import EXPORT_FLAGS, add_config_arguments, add_image_folder, make_parser, parse_args
from cups.errors import run_main


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add_config_arguments(parser, EXPORT_FLAGS, "cups_inference_val.py")
    parser.add_argument("--output_dir", type=read_path, help="predictions and results; required")
    parser.add_argument("--raw", action="store_true", help="describe the pseudo-classes themselves: raw.json")
    add_image_folder(parser, "a folder of images without labels, or a video; implies --raw")
    args, config = parse_args(parser, argv)
    if args.output_dir is None:  # not argparse's `required`: --print_config needs no folder
        parser.error("the following arguments are required: --output_dir")
    if args.image_dir:
        from cups.builders.prediction import predict_folder

        predict_folder(config, args.image_dir, args.output_dir, "raw", overlays=False, tracking=args.tracking)
        return 0
    from cups.builders.scoring import export_panoptic
    from cups.evaluation.results import results_report

    print(results_report(export_panoptic(config, args.output_dir, args.raw)))
    return 0


if __name__ == "__main__":
    run_main(main)
