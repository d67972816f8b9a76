"""What the evaluation scripts share: arguments, panoptic and semantic scores of labels, writing results."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cups.data.cityscapes import GroundTruthFrame
from cups.errors import UserError
from cups.evaluation.results import Result, results_from_scores, results_report, write_results
from cups.io.provenance import code_version, describe_input
from cups.metrics.protocol import Protocol
from cups.taxonomy import class_set
from pseudo_labels.scoring.engine import Reader, evaluate, ground_truth_frames
from pseudo_labels.scoring.semantic import (
    SemanticReader,
    semantic_counts,
    semantic_report,
    semantic_results,
)


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser, its help showing defaults, with the arguments of every evaluation."""
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--cityscapes_root", type=Path, required=True, help="folder with leftImg8bit/, gtFine/"
    )
    parser.add_argument("--split", default="val", help="split with ground truth")
    parser.add_argument(
        "--output_root", type=Path, help="where the label folders are (else --cityscapes_root)"
    )
    parser.add_argument("--max_images", type=int, help="use only the first N images")
    parser.add_argument("--num_workers", type=int, default=0, help="reading processes")
    parser.add_argument("--results", type=Path, help="path without suffix (default: evaluation/NAME_SPLIT)")
    return parser


def add_panoptic_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the classes to score and the kind of matching."""
    parser.add_argument("--num_classes", type=int, choices=(27, 19, 7), default=19, help="classes to score")
    parser.add_argument(
        "--matching", choices=("separate", "joint"), default="separate", help="things and stuff apart or not"
    )


def add_match_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--match_split`."""
    parser.add_argument(
        "--match_split",
        help="split that semantic matchings are fitted on (default: the images scored, which flatters: with "
        "many clusters, a matching remembers)",
    )


def add_thing_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the thing classes of a semantic folder are told."""
    things = parser.add_mutually_exclusive_group()
    things.add_argument("--thing_classes", type=int, nargs="+", help="ids of the thing pseudo-classes")
    things.add_argument("--split_json", type=Path, help="from classify_stuff_things.py (or the folder's)")


def label_root(args: argparse.Namespace) -> Path:
    """Return the folder that holds the label folders."""
    return args.output_root or args.cityscapes_root


def require_folder(folder: Path, flag: str) -> Path:
    """Return `folder`.

    Raises:
        UserError: it does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check {flag}")
    return folder


def record(args: argparse.Namespace, inputs: Sequence[Path], **more: Any) -> dict[str, Any]:
    """Return the fields of `Result` that say how a number came about."""
    return {
        "code_version": code_version(),
        "config": {key: str(value) for key, value in vars(args).items()} | more,
        "provenance": {folder.name: describe_input(folder) for folder in inputs},
    }


def publish(args: argparse.Namespace, name: str, results: Sequence[Result], report: str) -> None:
    """Write the results beside the labels (or at `--results`) and print the report."""
    stem = args.results or label_root(args) / "evaluation" / f"{name}_{args.split}"
    write_results(stem, results, report)
    print(report)
    print(f"results: {stem}.json, .csv, .md")


def fitted_counts(
    args: argparse.Namespace, read: SemanticReader, protocol: Protocol, num_clusters: int
) -> tuple[np.ndarray | None, Protocol]:
    """Count the split that matchings are fitted on, if it is another than the one scored; name it.

    read: reader of `--match_split`.
    """
    if args.match_split in (None, args.split):
        return None, replace(protocol, fitted_on=f"the {args.split} images scored")
    frames = ground_truth_frames(args.cityscapes_root, args.match_split, args.max_images)
    counts = semantic_counts(frames, read, protocol, num_clusters, args.num_workers)
    return counts, replace(protocol, fitted_on=f"{args.match_split} ({len(frames)} images)")


@dataclass(frozen=True)
class Labels:
    """Semantics with instances to be scored.

    Attributes:
        name: for the results.
        read: reader of semantic and instance map.
        read_semantic: reader of the semantic map in the split that matchings are fitted on.
        num_classes: pseudo-classes K.
        things: those that are things.
        inputs: folders, for provenance.
    """

    name: str
    read: Reader
    read_semantic: SemanticReader
    num_classes: int
    things: tuple[int, ...]
    inputs: tuple[Path, ...]


def score_labels(
    args: argparse.Namespace, labels: Labels, frames: Sequence[GroundTruthFrame]
) -> tuple[list[Result], str]:
    """Score labels in one pass: PQ under the Hungarian matching, and semantics under every matching.

    Returns:
        Results and their report.
    """
    classes = class_set(args.num_classes)
    evaluation = evaluate(
        frames,
        labels.read,
        classes=classes,
        num_clusters=labels.num_classes,
        things=labels.things,
        matching=args.matching,
        workers=args.num_workers,
        semantics=True,
    )
    assert evaluation.counts is not None
    more = record(args, labels.inputs, things=list(labels.things), images=len(frames))
    panoptic = results_from_scores(labels.name, evaluation.scores, classes, evaluation.protocol, **more)
    protocol = replace(evaluation.protocol, task="semantic")
    fitted, protocol = fitted_counts(args, labels.read_semantic, protocol, labels.num_classes)
    semantic = semantic_results(labels.name, evaluation.counts, protocol, fitted=fitted, **more)
    report = f"{results_report(panoptic)}\n\nSemantics alone, as stored:\n\n{semantic_report(semantic)}"
    return [*panoptic, *semantic], report
