"""Score semantic pseudo-labels against gtFine: mIoU, accuracy and IoU per class under every matching.

Labels may be trainIds, the 27 classes of CAUSE, or raw clusters. Named labels are scored as they are; all are
scored after a one-to-one (Hungarian) and a many-to-one matching to the classes. A matching that is fitted on
the very images it is scored on flatters labels with many clusters: `--match_split train` fits it elsewhere.
`--protocol semantic-27-crop320` is what unsupervised semantic segmentation papers (STEGO, CAUSE) report. It
looks at ground truth, so nothing it writes may be trained on.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from cups.data.pseudo_label_dataset import load_statistics
from cups.errors import UserError, run_main
from cups.metrics.protocol import NAMED, Protocol
from pseudo_labels.inputs.labels import MAPPED_SEMANTICS
from pseudo_labels.scoring.arguments import (
    add_match_argument,
    fitted_counts,
    label_root,
    make_parser,
    publish,
    record,
    require_folder,
)
from pseudo_labels.scoring.engine import ground_truth_frames
from pseudo_labels.scoring.semantic import (
    SemanticLabels,
    semantic_counts,
    semantic_report,
    semantic_results,
)

KINDS = {"trainid": 19, "class27": 27}
"""Labels with names, and how many."""
PROTOCOLS = sorted(name for name, protocol in NAMED.items() if protocol.task == "semantic")


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = make_parser(__doc__ or "")
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument("--semantic_subdir", default=MAPPED_SEMANTICS, help="semantic folder")
    labels.add_argument("--cups_dir", type=Path, help="folder in the CUPS format instead")
    parser.add_argument(
        "--labels",
        choices=("auto", *KINDS, "clusters"),
        default="auto",
        help="what the ids are (auto: by the folder's name; a CUPS folder holds clusters)",
    )
    parser.add_argument(
        "--num_semantic_classes", type=int, help="clusters (default: by the folder's name, ..._k{N})"
    )
    scored = parser.add_mutually_exclusive_group()
    scored.add_argument("--num_classes", type=int, choices=(27, 19, 7), default=19, help="classes to score")
    scored.add_argument("--protocol", choices=PROTOCOLS, help="a published protocol instead")
    add_match_argument(parser)
    return parser


def kind_of(labels: str, name: str) -> str:
    """Return "trainid", "class27" or "clusters"; `labels` "auto" goes by the folder's name."""
    if labels != "auto":
        return labels
    name = name.replace("pseudo_semantic_refined_", "pseudo_semantic_")
    if name.startswith("pseudo_semantic_mapped_"):
        return "trainid"
    return "class27" if name.startswith("pseudo_semantic_cause27") else "clusters"


def num_labels(kind: str, given: int | None, name: str) -> int:
    """Return the number of labels.

    Raises:
        UserError: clusters whose number is neither given nor in the folder's name.
    """
    if kind in KINDS:
        return KINDS[kind]
    if given is not None:
        if not 0 < given < 65535:
            raise UserError(f"--num_semantic_classes {given}: must be between 1 and 65534")
        return given
    match = re.search(r"_(?:k|merged)(\d+)$", name)
    if match is None:
        raise UserError(
            f"--num_semantic_classes: missing; the name {name} does not tell the number of clusters"
        )
    return int(match[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    folder = args.cups_dir or label_root(args) / args.semantic_subdir
    require_folder(folder, "--cups_dir" if args.cups_dir else "--semantic_subdir")
    kind = kind_of(args.labels, folder.name)
    if args.cups_dir is not None and kind == "clusters" and args.num_semantic_classes is None:
        args.num_semantic_classes = len(load_statistics(folder)[0])
    count = num_labels(kind, args.num_semantic_classes, folder.name)
    frames = ground_truth_frames(args.cityscapes_root, args.split, args.max_images)
    protocol = NAMED[args.protocol] if args.protocol else _protocol(args.num_classes)

    def reader(split: str) -> SemanticLabels:
        return SemanticLabels(folder, None if args.cups_dir else split, count)

    counts = semantic_counts(frames, reader(args.split), protocol, count, args.num_workers)
    fitted, protocol = fitted_counts(args, reader(args.match_split or args.split), protocol, count)
    more = record(args, [folder], images=len(frames))
    named = kind in KINDS
    results = semantic_results(folder.name, counts, protocol, fitted=fitted, named=named, **more)
    publish(args, f"{folder.name}_semantic", results, semantic_report(results))
    return 0


def _protocol(num_classes: int) -> Protocol:
    return Protocol(f"pseudo-labels-{num_classes}", num_classes=num_classes, task="semantic")


if __name__ == "__main__":
    run_main(main)
