"""Score a folder in the CUPS format, as the cascade network is trained on it, against gtFine.

PQ, SQ, RQ under both void rules with the things that training derives from the `.pt` statistics, and the
semantics alone under every matching, in one pass. Label files may have image size, training size or any size
of the same aspect; they pass through the alignment that training uses. It looks at ground truth, so nothing
it writes may be trained on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from cups.data.cityscapes import GroundTruthFrame
from cups.data.pseudo_label_dataset import load_statistics
from cups.errors import UserError, run_main
from cups.evaluation.results import Result
from cups.io.file_names import SEMANTIC_SUFFIX
from cups.io.markdown import markdown_table, percent
from cups.taxonomy import VOID, class_set
from pseudo_labels.scoring.arguments import (
    Labels,
    add_match_argument,
    add_panoptic_arguments,
    make_parser,
    publish,
    score_labels,
)
from pseudo_labels.scoring.engine import CupsLabels, ground_truth_frames, read_cups_classes
from pseudo_labels.scoring.semantic import SemanticLabels

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--cups_dir", type=Path, required=True, help="folder in the CUPS format")
    parser.add_argument("--only_labelled", action="store_true", help="leave out images without labels")
    parser.add_argument(
        "--thing_stuff_threshold", type=float, default=0.08, help="share that makes a thing, as training"
    )
    add_panoptic_arguments(parser)
    add_match_argument(parser)
    return parser


def labelled_frames(args: argparse.Namespace) -> list[GroundTruthFrame]:
    """Return the frames to score.

    Raises:
        UserError: an image without labels (unless `--only_labelled`), or none with.
    """
    frames = ground_truth_frames(args.cityscapes_root, args.split, None)
    missing = [frame for frame in frames if not (args.cups_dir / f"{frame.stem}{SEMANTIC_SUFFIX}").is_file()]
    if missing and not args.only_labelled:
        raise UserError(
            f"{args.cups_dir}: no labels of {missing[0].stem} (and {len(missing) - 1} more of {args.split}); "
            "convert that split, choose another --split, or add --only_labelled"
        )
    left_out = {frame.stem for frame in missing}
    kept = [frame for frame in frames if frame.stem not in left_out]
    if not kept:
        raise UserError(f"{args.cups_dir}: no labels of {args.split}; convert that split or change --split")
    if missing:
        log.warning("%d of %d images have no labels and are left out", len(missing), len(frames))
    return kept[: args.max_images]


def pseudo_class_table(folder: Path, things: Sequence[int], result: Result, num_classes: int) -> str:
    """Return a Markdown table of the pseudo-classes, most thing-like first: share inside instances, match."""
    all_pixels, inside = load_statistics(folder)
    names = class_set(num_classes).names
    share = (inside / all_pixels.clamp(min=1)).tolist()
    pixels = (all_pixels / all_pixels.sum().clamp(min=1)).tolist()
    rows = []
    for index in sorted(range(len(share)), key=lambda index: (-share[index], index)):
        match = result.assignment[index]
        kind = "thing" if index in things else "stuff"
        name = "none" if match == VOID else names[match]
        rows.append((index, kind, percent(share[index]), percent(pixels[index]), name))
    return markdown_table(rows, ("pseudo-class", "kind", "inside instances", "of all pixels", "matched"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    folder = args.cups_dir
    num_classes, things = read_cups_classes(folder, args.thing_stuff_threshold)
    labels = Labels(
        name=folder.name,
        read=CupsLabels(folder, num_classes),
        read_semantic=SemanticLabels(folder, None, num_classes),
        num_classes=num_classes,
        things=things,
        inputs=(folder,),
    )
    results, report = score_labels(args, labels, labelled_frames(args))
    table = pseudo_class_table(folder, things, results[0], args.num_classes)
    publish(args, folder.name, results, f"{report}\n\n{table}")
    return 0


if __name__ == "__main__":
    run_main(main)
