"""Score pseudo-labels against gtFine: PQ, SQ, RQ, mIoU, accuracy under both void rules.

Reads a semantic and an instance folder, a panoptic folder (`--panoptic_subdir`), or a folder in the CUPS
format (`--cups_dir`). It looks at ground truth, so nothing it writes may be trained on.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import UserError, run_main
from cups.ops.png import atomic_write
from cups.provenance import code_version, describe_input
from cups.taxonomy import ClassSet, class_set
from pseudo_labels.evaluation.engine import (
    CupsLabels,
    Evaluation,
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
SUMMARY_KEYS = ("pq", "sq", "rq", "pq_things", "pq_stuff", "miou", "accuracy")
SUMMARY_NAMES = ("PQ", "SQ", "RQ", "PQ things", "PQ stuff", "mIoU", "accuracy")
CLASS_KEYS = ("pq_per_class", "sq_per_class", "rq_per_class", "iou_per_class")


def summary_table(evaluation: Evaluation) -> str:
    """Return the markdown table of averages in per cent, a row per void rule."""
    lines = ["| void rule | " + " | ".join(SUMMARY_NAMES) + " |", "|---|" + "---:|" * len(SUMMARY_NAMES)]
    for rule, scores in evaluation.scores.items():
        values = " | ".join(f"{100 * float(scores[key]):.1f}" for key in SUMMARY_KEYS)
        lines.append(f"| {rule} | {values} |")
    return "\n".join(lines)


def class_rows(evaluation: Evaluation, classes: ClassSet) -> list[dict[str, Any]]:
    """Return one row per void rule and class: name, kind, PQ, SQ, RQ, IoU in 0-1 and the counts."""
    rows = []
    for rule, scores in evaluation.scores.items():
        for index, name in enumerate(classes.names):
            row: dict[str, Any] = {"void_rule": rule, "class": name}
            row["kind"] = "thing" if index in classes.things else "stuff"
            row |= {key.split("_")[0]: round(float(scores[key][index]), 6) for key in CLASS_KEYS}
            for count in ("true_positives", "false_positives", "false_negatives"):
                row[count] = int(scores[f"{count}_per_class"][index])
            rows.append(row)
    return rows


def class_table(rows: Sequence[dict[str, Any]], rule: str) -> str:
    """Return the markdown table of the classes under one void rule, in per cent."""
    lines = ["| class | kind | PQ | SQ | RQ | IoU | TP | FP | FN |", "|---|---|" + "---:|" * 7]
    for row in rows:
        if row["void_rule"] == rule:
            values = " | ".join(f"{100 * row[key]:.1f}" for key in ("pq", "sq", "rq", "iou"))
            counts = " | ".join(str(row[k]) for k in ("true_positives", "false_positives", "false_negatives"))
            lines.append(f"| {row['class']} | {row['kind']} | {values} | {counts} |")
    return "\n".join(lines)


def write_results(
    path: Path, evaluation: Evaluation, classes: ClassSet, inputs: Sequence[Path], args: argparse.Namespace
) -> None:
    """Write `path` .json (everything), .csv (classes) and .md (tables), each atomically."""
    rows = class_rows(evaluation, classes)
    content = {
        "script": SCRIPT,
        "code_version": code_version(),
        "protocols": {rule: str(protocol) for rule, protocol in evaluation.protocols.items()},
        "frames": evaluation.frames,
        "thing_pseudo_classes": list(evaluation.things),
        "metrics": {
            rule: {key: None if np.isnan(float(scores[key])) else float(scores[key]) for key in SUMMARY_KEYS}
            for rule, scores in evaluation.scores.items()
        },
        "assignment": next(iter(evaluation.scores.values()))["assignment"].tolist(),
        "classes": rows,
        "arguments": {key: str(value) for key, value in vars(args).items()},
        "provenance": [describe_input(folder) for folder in inputs],
    }
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    protocols = "\n".join(f"- {protocol}" for protocol in evaluation.protocols.values())
    markdown = f"{protocols}\n\n{summary_table(evaluation)}\n\n" + "\n\n".join(
        f"{rule} void rule\n\n{class_table(rows, rule)}" for rule in evaluation.scores
    )
    texts = {".json": json.dumps(content, indent=2), ".csv": table.getvalue(), ".md": markdown}
    for suffix, text in texts.items():
        _write_text(path.with_name(path.name + suffix), text)


def _write_text(path: Path, text: str) -> None:
    atomic_write(path, lambda temporary: temporary.write_text(text.rstrip("\n") + "\n"))


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
    path = args.results or root / "evaluation" / f"{name}_{args.split}"
    write_results(path, evaluation, classes, inputs, args)
    print("\n".join(str(protocol) for protocol in evaluation.protocols.values()))
    print(summary_table(evaluation))
    print(class_table(class_rows(evaluation, classes), "standard"))
    print(f"results: {path}.json, .csv, .md")
    return 0


if __name__ == "__main__":
    run_main(main)
