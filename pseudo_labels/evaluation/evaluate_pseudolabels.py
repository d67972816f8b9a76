"""Score pseudo-labels against gtFine: PQ, SQ, RQ, mIoU, accuracy under both void rules.

Reads a semantic and an instance folder, a panoptic folder (`--panoptic_subdir`), or a folder in the CUPS
format (`--cups_dir`). It looks at ground truth, so nothing it writes may be trained on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from cups.errors import run_main
from cups.evaluation.results import results_from_scores, results_report
from cups.taxonomy import class_set
from pseudo_labels.inputs.labels import DEFAULT_METHOD, INSTANCE_PREFIX, MAPPED_SEMANTICS, thing_classes
from pseudo_labels.scoring.arguments import (
    add_panoptic_arguments,
    add_thing_arguments,
    label_root,
    make_parser,
    publish,
    record,
    require_folder,
)
from pseudo_labels.scoring.engine import (
    CupsLabels,
    FolderLabels,
    PanopticLabels,
    Reader,
    evaluate,
    ground_truth_frames,
    read_cups_classes,
    read_panoptic_json,
)
from pseudo_labels.steps.step import Folder

SCRIPT = "evaluate_pseudolabels"


def choose_labels(
    args: argparse.Namespace, root: Path
) -> tuple[Reader, int, tuple[int, ...], list[Path], str]:
    """Return reader, number of pseudo-classes, thing classes, folders read and a name for the results."""
    if args.cups_dir is not None:
        num_classes, things = read_cups_classes(args.cups_dir, args.thing_stuff_threshold)
        return (
            CupsLabels(args.cups_dir, num_classes),
            num_classes,
            things,
            [args.cups_dir],
            args.cups_dir.name,
        )
    if args.panoptic_subdir is not None:
        folder = root / args.panoptic_subdir
        num_classes, things = read_panoptic_json(folder / f"{args.split}.json")
        return PanopticLabels(folder, args.split, num_classes), num_classes, things, [folder], folder.name
    semantics = Folder(root, args.semantic_subdir, ".png")
    require_folder(semantics.directory, "--semantic_subdir")
    instances = require_folder(root / args.instance_subdir, "--instance_subdir")
    things = thing_classes(semantics, args.thing_classes, args.split_json)
    reader = FolderLabels(semantics.directory, instances, args.split, args.num_semantic_classes)
    name = f"{semantics.name}+{instances.name}"
    return reader, args.num_semantic_classes, things, [semantics.directory, instances], name


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--semantic_subdir", default=MAPPED_SEMANTICS, help="semantic folder")
    parser.add_argument("--instance_subdir", default=INSTANCE_PREFIX + DEFAULT_METHOD, help="instance folder")
    parser.add_argument("--panoptic_subdir", help="panoptic folder instead")
    parser.add_argument("--cups_dir", type=Path, help="folder in the CUPS format instead")
    parser.add_argument(
        "--num_semantic_classes", type=int, default=19, help="pseudo-classes of the semantics"
    )
    add_thing_arguments(parser)
    parser.add_argument(
        "--thing_stuff_threshold", type=float, default=0.08, help="with --cups_dir, as training"
    )
    add_panoptic_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    frames = ground_truth_frames(args.cityscapes_root, args.split, args.max_images)
    read, num_clusters, things, inputs, name = choose_labels(args, label_root(args))
    classes = class_set(args.num_classes)
    evaluation = evaluate(
        frames,
        read,
        classes=classes,
        num_clusters=num_clusters,
        things=things,
        matching=args.matching,
        workers=args.num_workers,
    )
    more = record(args, inputs, things=list(things))
    results = results_from_scores(name, evaluation.scores, classes, evaluation.protocol, **more)
    publish(args, name, results, results_report(results))
    return 0


if __name__ == "__main__":
    run_main(main)
