#!/usr/bin/env python3
"""Predict on your own images and videos: COCO panoptic files, overlays with a legend, overlay videos.

Writes OUTPUT/panoptic/*.png, panoptic.json, overlays/. Objects of a clip keep their numbers from frame to
frame. A killed run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.allowed import read_path
from cups.config import make_parser
from cups.defaults import CONFIDENCE_THRESHOLD
from cups.errors import run_main
from cups.prediction_settings import PredictionSettings, read_size


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", type=read_path, required=True, help="of our trainings, or published by CUPS")
    add("--input", type=read_path, nargs="+", action="extend", required=True, help="folders, images, videos")
    add("--output", type=read_path, required=True, help="folder of the results")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--confidence", type=float, default=CONFIDENCE_THRESHOLD, help="of objects, at least (%(default)s)")
    add("--names", type=read_path, help="class names, JSON or YAML (default: CHECKPOINT.names.json, if any)")
    add("--working_size", type=read_size, metavar="HxW", help="of training images (default: stored)")
    add("--use_teacher", action="store_true", help="the averaged teacher of a self-training checkpoint")
    add(
        "--snap_to_regions",
        action="store_const",
        const=True,
        help="stuff follows edges (default: as trained)",
    )
    add(
        "--semantic_weight",
        type=float,
        metavar="W",
        help="of the semantic head in an object's score (default: as trained)",
    )
    add("--no_tracking", dest="tracking", action="store_false", help="number the objects of each frame anew")
    add(
        "--votes",
        action="store_true",
        help="of clips: one category for an object, by its frames' scores so far",
    )
    add("--no_overlays", dest="overlays", action="store_false", help="no pictures, no videos")
    add("--max_images", type=int, metavar="N", help="predict on the first N only (default: all)")
    add("--skip_bad", action="store_true", help="leave out images that cannot be read (default: stop)")
    add("--overwrite", action="store_true", help="predict again, in place of what OUTPUT holds")
    settings = PredictionSettings(**vars(parser.parse_args(argv)))
    from cups.builders.prediction import predict_images

    predict_images(settings)
    return 0


if __name__ == "__main__":
    run_main(main)
