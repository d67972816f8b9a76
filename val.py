#!/usr/bin/env python3
"""Evaluate a checkpoint (PQ, SQ, RQ, mIoU, accuracy), score label files, or predict on a folder of images.

--data_sets evaluates on every data set that lies below a folder, and writes one table.
--compare tells whether two evaluations differ by more than the choice of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cups.allowed import read_path
from cups.config import (
    VAL_FLAGS,
    add_config_arguments,
    add_image_folder,
    config_like,
    make_parser,
    parse_args,
)
from cups.errors import UserError, run_main
from cups.folder_settings import PREDICTION_IDS, TRUTH_IDS, FolderSettings


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add_config_arguments(parser, VAL_FLAGS, "val.py")
    parser.add_argument("--output_dir", type=read_path, help="results (default: LOG_PATH/RUN_NAME)")
    add_image_folder(parser, "predict on this folder of images, or video; needs no labels")
    parser.add_argument("--visualize_results", action="store_true", help="write an overlay of every frame")
    parser.add_argument(
        "--save_names", action="store_true", help="write the matched names beside the checkpoint"
    )
    parser.add_argument(
        "--truth", type=read_path, help="score files: ground truth, a folder or a COCO panoptic JSON"
    )
    parser.add_argument("--prediction", type=read_path, help="and predictions of any tool, likewise")
    parser.add_argument("--truth_ids", choices=TRUTH_IDS, default="id", help="what id maps hold")
    parser.add_argument(
        "--prediction_ids",
        choices=PREDICTION_IDS,
        default="auto",
        help="auto: names of a COCO set, else clusters that are matched",
    )
    parser.add_argument(
        "--compare",
        type=read_path,
        nargs=2,
        metavar=("A", "B"),
        help="what B gains over A on the same frames, with intervals: results of two evaluations",
    )
    parser.add_argument(
        "--data_sets",
        type=read_path,
        help="evaluate on every data set below this folder, one table (docs/data.md)",
    )
    parser.add_argument("--only", default="", help="of --data_sets: names with commas between them")
    parser.add_argument("--only_predicted", action="store_true", help="leave out frames without a prediction")
    parser.add_argument("--video", action="store_true", help="files of clips: STQ and VPQ besides")
    args, config = parse_args(parser, argv)
    if args.compare:
        from cups.evaluation.comparison import compare

        print(compare(*args.compare))
        return 0
    ids = args.truth_ids, args.prediction_ids
    files = FolderSettings(args.truth, args.prediction, *ids, args.only_predicted, args.video)
    if files.given:
        from cups.builders.folder_scores import score_folders

        print(score_folders(config, files, args.output_dir))
        return 0
    if args.only and not args.data_sets:
        parser.error("argument --only: chooses among --data_sets; give these too")
    if args.data_sets:
        if args.data_root:
            parser.error("argument --data_sets: holds all data sets; leave --data_root out")
        from cups.builders.data_sets import evaluate_data_sets

        only = [name.strip() for name in args.only.split(",") if name.strip()]
        report, faults = evaluate_data_sets(partial(config_like, args), args.data_sets, args.output_dir, only)
        print(report)
        if faults:
            sets = "data set was" if len(faults) == 1 else "data sets were"
            raise UserError(f"{len(faults)} {sets} not scored: {faults[0]}")
        return 0
    if args.image_dir:
        if args.save_names:
            parser.error("argument --save_names: names come from ground truth; leave --image_dir out")
        from cups.builders.prediction import predict_folder

        predict_folder(config, args.image_dir, args.output_dir, tracking=args.tracking)
        return 0
    from cups.builders.scoring import evaluate, save_matched_names
    from cups.evaluation.results import results_report

    results = evaluate(config, args.output_dir, args.visualize_results)
    if args.save_names:
        save_matched_names(config, results[0])
    print(results_report(results))
    return 0


if __name__ == "__main__":
    run_main(main)
