"""Score raw overclusters (k = 50, or any k) with their instances against gtFine.

The clusters have no names: PQ is under the Hungarian matching of clusters to classes, things with things and
stuff with stuff, the things coming from label-free statistics: `classify_stuff_things.py`, or the `.pt` files
of the folder in the CUPS format made of these labels (`--statistics`). Semantics alone are scored under the
one-to-one and the many-to-one matching. It looks at ground truth, so nothing it writes may be trained on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from cups.errors import UserError, run_main
from pseudo_labels.inputs.labels import DEFAULT_METHOD, INSTANCE_PREFIX, thing_classes
from pseudo_labels.scoring.arguments import (
    Labels,
    add_match_argument,
    add_panoptic_arguments,
    add_thing_arguments,
    label_root,
    make_parser,
    publish,
    require_folder,
    score_labels,
)
from pseudo_labels.scoring.engine import FolderLabels, ground_truth_frames, read_cups_classes
from pseudo_labels.scoring.semantic import SemanticLabels
from pseudo_labels.steps.step import Folder


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--k", type=int, default=50, help="number of clusters")
    parser.add_argument("--semantic_subdir", help="cluster folder (default: pseudo_semantic_raw_k{K})")
    parser.add_argument("--instance_subdir", default=INSTANCE_PREFIX + DEFAULT_METHOD, help="instance folder")
    add_thing_arguments(parser)
    parser.add_argument("--statistics", type=Path, help="folder in the CUPS format that tells the things")
    parser.add_argument(
        "--thing_stuff_threshold", type=float, default=0.08, help="with --statistics, as training"
    )
    add_panoptic_arguments(parser)
    add_match_argument(parser)
    return parser


def find_thing_clusters(args: argparse.Namespace, semantics: Folder) -> tuple[int, ...]:
    """Return the thing clusters.

    Raises:
        UserError: nothing tells, or clusters beyond K.
    """
    if args.statistics is not None:
        count, things = read_cups_classes(args.statistics, args.thing_stuff_threshold)
        if count != args.k:
            raise UserError(f"{args.statistics}: statistics of {count} pseudo-classes, but --k is {args.k}")
        return things
    things = thing_classes(semantics, args.thing_classes, args.split_json)
    if max(things) >= args.k:
        raise UserError(f"--thing_classes: {max(things)} is no cluster of --k {args.k}; check both")
    return things


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    if not 0 < args.k < 65535:
        raise UserError(f"--k {args.k}: must be between 1 and 65534")
    root = label_root(args)
    semantics = Folder(root, args.semantic_subdir or f"pseudo_semantic_raw_k{args.k}", ".png")
    require_folder(semantics.directory, "--semantic_subdir and --k")
    instances = require_folder(root / args.instance_subdir, "--instance_subdir")
    labels = Labels(
        name=f"{semantics.name}+{instances.name}",
        read=FolderLabels(semantics.directory, instances, args.split, args.k),
        read_semantic=SemanticLabels(semantics.directory, args.match_split or args.split, args.k),
        num_classes=args.k,
        things=find_thing_clusters(args, semantics),
        inputs=(semantics.directory, instances),
    )
    frames = ground_truth_frames(args.cityscapes_root, args.split, args.max_images)
    results, report = score_labels(args, labels, frames)
    publish(args, f"{labels.name}_k{args.k}", results, report)
    return 0


if __name__ == "__main__":
    run_main(main)
