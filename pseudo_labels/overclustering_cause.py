"""How many clusters should overclustering have? Quality of k-means on CAUSE codes for many k, against gtFine.

Clusters are fitted on `--fit_split` without labels, as `generate_overclustered_semantics.py` does, and
measured on `--split` with labels. For each k: mIoU under the one-to-one and the many-to-one matching, the
classes recovered, cluster purity, inertia; the plain CAUSE labels stand beside them.

With many clusters a matching that is fitted on the very images it is scored on remembers them: it flatters
large k. `--match_split train` also fits matchings on other images. All of this reads ground truth: it is for
people, and no label is ever made from it.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import numpy as np

from cups.errors import UserError, run_main
from cups.io.files import atomic_write, write_json
from cups.io.provenance import code_version, write_provenance
from cups.metrics.protocol import Protocol
from cups.ops.kmeans import fit_kmeans
from cups.taxonomy import class_set
from pseudo_labels.algorithms.overclustering import (
    FEATURES,
    Source,
    load_or_fit,
    pooled_reader,
    sample_vectors,
    shuffled_batches,
    vector_source,
)
from pseudo_labels.inputs.labels import SEMANTIC_FOLDER
from pseudo_labels.networks.cause_heads import add_model_arguments
from pseudo_labels.scoring.engine import ground_truth_frames
from pseudo_labels.scoring.overclusters import (
    ALL_CLASSES,
    ClusterScore,
    Tally,
    count_clusters,
    score_clusters,
)
from pseudo_labels.scoring.overclusters_report import report, write_plot
from pseudo_labels.scoring.semantic import SemanticLabels, semantic_counts
from pseudo_labels.steps.arguments import image_folder, recorded
from pseudo_labels.steps.step import Folder, Frame, list_frames, make_parser, output_root

log = logging.getLogger(__name__)
SCRIPT = "overclustering_cause"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UserError: impossible values.
    """
    parser = make_parser(__doc__ or "", shards=False)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.set_defaults(split="val", num_workers=cores)
    add_model_arguments(parser)
    group = parser.add_argument_group("clusters")
    group.add_argument(
        "--ks", type=int, nargs="+", default=[27, 50, 100, 200, 300, 500], help="numbers of clusters"
    )
    group.add_argument("--features", choices=FEATURES, default="codes", help="what is clustered")
    group.add_argument("--regions", action="store_true", help="cluster and label regions of even colour")
    group.add_argument("--fit_split", default="train", help="split that the clusters are fitted on")
    group.add_argument("--epochs", type=int, default=5, help="passes of k-means over the sampled tokens")
    group.add_argument("--tokens_per_image", type=int, default=1024, help="random tokens taken of each image")
    score = parser.add_argument_group("scores")
    score.add_argument("--num_classes", type=int, choices=(27, 19, 7), default=19, help="classes to score")
    score.add_argument("--match_split", help="also fit the matchings on this split")
    score.add_argument(
        "--recovered_iou", type=float, default=0.1, help="IoU above which a class is recovered"
    )
    args = parser.parse_args(argv)
    if args.cityscapes_root is None:
        raise UserError("--cityscapes_root: missing; the analysis needs gtFine")
    if min(args.ks) < 2 or max(args.ks) > 65534:
        raise UserError(f"--ks {' '.join(map(str, args.ks))}: each must be in 2..65534")
    if not 0 <= args.recovered_iou < 1:
        raise UserError(f"--recovered_iou {args.recovered_iou}: must be in 0..1")
    args.ks = sorted(set(args.ks))
    return args


def frames_of(args: argparse.Namespace, split: str) -> list[Frame]:
    """Return the frames of a split."""
    chosen = copy.copy(args)
    chosen.split = split
    return list_frames(chosen)


def fit_all(
    args: argparse.Namespace, source: Source, frames: Sequence[Frame], folder: Path
) -> dict[int, np.ndarray]:
    """Load or fit the centroids of every k: {k: (k, D) float32}; the samples are taken once."""
    read = pooled_reader(source.read) if args.regions else source.read

    @cache
    def samples() -> list[np.ndarray]:
        return sample_vectors(frames, read, args.tokens_per_image, args.seed, "vectors")

    names = ("seed", "features", "regions", "fit_split", "epochs", "tokens_per_image")
    settings = {name: getattr(args, name) for name in names} | {"images": len(frames)}

    def fit(k: int) -> np.ndarray:
        log.info("k = %d", k)
        return fit_kmeans(shuffled_batches(samples(), args.epochs, args.seed), k, args.seed)

    return {
        k: load_or_fit(folder / f"centroids_k{k}.npz", partial(fit, k), settings | {"k": k}, args)
        for k in args.ks
    }


def count_split(
    args: argparse.Namespace, source: Source, sets: dict[int, np.ndarray], split: str, folder: Path
) -> dict[int, Tally]:
    """Count the pixels of a split for every k."""
    return count_clusters(
        frames_of(args, split),
        source.read,
        sets,
        lambda k: folder / f"counts_{split}_k{k}.npz",
        args.cityscapes_root,
        regions=args.regions,
        workers=args.num_workers,
    )


def count_baseline(args: argparse.Namespace, split: str) -> np.ndarray | None:
    """Count the pixels of the plain CAUSE labels: (28, 27), None where there are none."""
    folder = output_root(args) / SEMANTIC_FOLDER
    if not folder.is_dir():
        log.warning("%s: no such folder; the comparison with plain CAUSE is left out", folder)
        return None
    frames = ground_truth_frames(args.cityscapes_root, split, args.max_images)
    protocol = Protocol("analysis", num_classes=ALL_CLASSES, task="semantic")
    # Threads have read till here; processes started beside them could hang, and this pass is short.
    return semantic_counts(frames, SemanticLabels(folder, split, ALL_CLASSES), protocol, ALL_CLASSES)


def analyse(args: argparse.Namespace, folder: Path) -> tuple[list[ClusterScore], Source]:
    """Return one score per k, the plain CAUSE labels first."""
    classes, splits = class_set(args.num_classes), [args.split]
    if args.match_split not in (None, args.split):
        splits.append(args.match_split)
    fitting = frames_of(args, args.fit_split)
    source = vector_source(args, fitting, folder)
    sets = fit_all(args, source, fitting, folder)
    tallies = {split: count_split(args, source, sets, split, folder) for split in splits}
    scores = []
    baseline = {split: counts for split in splits if (counts := count_baseline(args, split)) is not None}
    if baseline:
        counts = baseline[args.split]
        scores.append(
            score_clusters("plain CAUSE", counts, baseline, classes, args.recovered_iou, named=True)
        )
    for k in args.ks:
        tally = tallies[args.split][k]
        fits = {split: tallies[split][k].counts for split in splits}
        scores.append(
            score_clusters(f"k = {k}", tally.counts, fits, classes, args.recovered_iou, tally.inertia)
        )
    return scores, source


def main(argv: Sequence[str] | None = None) -> int:
    """Run the analysis."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_arguments(argv)
    name = f"overclustering_{args.features}{'_regions' if args.regions else ''}"
    folder = Folder(output_root(args), name, ".npz").directory
    images = frames_of(args, args.split)
    scores, source = analyse(args, folder)
    write_provenance(
        folder,
        script=SCRIPT,
        arguments=recorded(args),
        inputs=[image_folder(args), Path(args.cityscapes_root) / "gtFine", *source.inputs],
        weights=source.weights,
        uses_ground_truth=True,
    )
    text = report(args, scores, len(images))
    content = {
        "script": SCRIPT,
        "code_version": code_version(),
        "arguments": recorded(args),
        "images": len(images),
        "uses_ground_truth": True,
        "scores": [asdict(score) for score in scores],
    }
    write_json(folder / "analysis.json", content)
    atomic_write(folder / "analysis.md", lambda temporary: temporary.write_text(text + "\n"))
    write_plot(folder / "analysis.png", scores, args.num_classes)
    print(text)
    print(f"analysis: {folder}/analysis.md, .json, .png")
    return 0


if __name__ == "__main__":
    run_main(main)
