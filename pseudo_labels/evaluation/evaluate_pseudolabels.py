"""Score pseudo-labels against gtFine: PQ, SQ, RQ, mIoU, accuracy under both void rules.

Reads a semantic and an instance folder, a panoptic folder (`--panoptic_subdir`), or a folder in the CUPS
format (`--cups_dir`). It looks at ground truth, so nothing it writes may be trained on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from cups.errors import UserError, run_main
from cups.provenance import code_version, describe_input
from cups.reporting import results_from_scores, results_report, write_results
from cups.taxonomy import class_set
from pseudo_labels.evaluation.engine import (
    CupsLabels,
    FolderLabels,
    PanopticLabels,
    Reader,
    evaluate,
    ground_truth_frames,
    read_cups_classes,
    read_panoptic_json,
)
from pseudo_labels.labels import DEFAULT_METHOD, INSTANCE_PREFIX, MAPPED_SEMANTICS, thing_classes
from pseudo_labels.stage import Folder

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
    instances = root / args.instance_subdir
    for directory in (semantics.directory, instances):
        if not directory.is_dir():
            raise UserError(f"{directory}: no such folder; check --semantic_subdir and --instance_subdir")
    things = thing_classes(semantics, args.thing_classes, args.split_json)
    reader = FolderLabels(semantics.directory, instances, args.split, args.num_semantic_classes)
    name = f"{semantics.name}+{instances.name}"
    return reader, args.num_semantic_classes, things, [semantics.directory, instances], name


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--cityscapes_root", type=Path, required=True, help="folder with leftImg8bit/, gtFine/"
    )
    parser.add_argument("--split", default="val", help="split with ground truth")
    parser.add_argument(
        "--output_root", type=Path, help="where the label folders are (else --cityscapes_root)"
    )
    parser.add_argument("--semantic_subdir", default=MAPPED_SEMANTICS, help="semantic folder")
    parser.add_argument("--instance_subdir", default=INSTANCE_PREFIX + DEFAULT_METHOD, help="instance folder")
    parser.add_argument("--panoptic_subdir", help="panoptic folder instead")
    parser.add_argument("--cups_dir", type=Path, help="folder in the CUPS format instead")
    parser.add_argument(
        "--num_semantic_classes", type=int, default=19, help="pseudo-classes of the semantics"
    )
    things = parser.add_mutually_exclusive_group()
    things.add_argument("--thing_classes", type=int, nargs="+", help="ids of the thing pseudo-classes")
    things.add_argument("--split_json", type=Path, help="from classify_stuff_things.py (or the folder's)")
    parser.add_argument(
        "--thing_stuff_threshold", type=float, default=0.08, help="with --cups_dir, as training"
    )
    parser.add_argument("--num_classes", type=int, choices=(27, 19, 7), default=19, help="classes to score")
    parser.add_argument(
        "--matching", choices=("separate", "joint"), default="separate", help="things and stuff apart or not"
    )
    parser.add_argument("--max_images", type=int, help="use only the first N images")
    parser.add_argument("--num_workers", type=int, default=0, help="reading processes")
    parser.add_argument("--results", type=Path, help="path without suffix (default: evaluation/NAME_SPLIT)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    root = args.output_root or args.cityscapes_root
    frames = ground_truth_frames(args.cityscapes_root, args.split, args.max_images)
    read, num_clusters, things, inputs, name = choose_labels(args, root)
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
    stem = args.results or root / "evaluation" / f"{name}_{args.split}"
    results = results_from_scores(
        name,
        evaluation.scores,
        classes,
        evaluation.protocol,
        code_version=code_version(),
        config={key: str(value) for key, value in vars(args).items()} | {"things": list(things)},
        provenance={folder.name: describe_input(folder) for folder in inputs},
    )
    write_results(stem, results)
    print(results_report(results))
    print(f"results: {stem}.json, .csv, .md")
    return 0


if __name__ == "__main__":
    run_main(main)
