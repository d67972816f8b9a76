"""Overclustering: k-means on codes (or backbone features) of the train split, k pseudo-classes per image."""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.files import read_npy, write_npy
from cups.io.locking import made_once
from cups.io.png import read_ids, read_image, write_png
from cups.ops.kmeans import fit_kmeans, merge_centroids
from cups.taxonomy import VOID
from pseudo_labels.algorithms.overclustering import (
    FEATURES,
    Reader,
    cause_table,
    cluster_map,
    load_or_fit,
    pooled_reader,
    sample_vectors,
    shuffled_batches,
    vector_source,
)
from pseudo_labels.inputs.labels import SEMANTIC_FOLDER
from pseudo_labels.networks.cause_heads import add_model_arguments
from pseudo_labels.scoring.oracle_mapping import GROUND_TRUTH_FOLDER, oracle_table
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import Folder, Frame, list_frames, make_parser, output_root, run_stage

log = logging.getLogger(__name__)
SCRIPT = "generate_overclustered_semantics"
CENTROIDS = "centroids.npz"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__ or "")
    add_model_arguments(parser)
    group = parser.add_argument_group("clusters")
    group.add_argument("--k", type=int, default=300, help="number of clusters")
    group.add_argument(
        "--features",
        choices=FEATURES,
        default="codes",
        help="what is clustered: CAUSE codes, backbone features, or features with the texture around them",
    )
    group.add_argument(
        "--regions",
        action="store_true",
        help="average over regions of even colour (mean shift) before clustering, and label whole regions",
    )
    group.add_argument("--fit_split", default="train", help="split that the clusters are fitted on")
    group.add_argument("--epochs", type=int, default=5, help="passes of k-means over the sampled tokens")
    group.add_argument("--tokens_per_image", type=int, default=1024, help="random tokens taken of each image")
    output = parser.add_argument_group("output")
    output.add_argument("--raw", action="store_true", help="write cluster ids as they are")
    output.add_argument(
        "--merge_to", type=int, metavar="N", help="merge clusters to N pseudo-classes, no labels"
    )
    output.add_argument(
        "--mapping",
        choices=["cause", "oracle"],
        default="cause",
        help="without --raw or --merge_to, write 19 trainIds: by the CAUSE class that a cluster overlaps "
        "most, or by ground truth (uses labels; the usual evaluation protocol)",
    )
    output.add_argument("--crf", action="store_true", help="refine along edges by a dense CRF (slow)")
    args = parser.parse_args(argv)
    if not 1 <= args.k <= 65534:
        parser.error("--k must be in 1..65534")
    if args.raw and args.merge_to is not None:
        parser.error("give either --raw or --merge_to")
    if args.regions and args.crf:
        parser.error("give either --regions or --crf")
    return args


def output_folder(args: argparse.Namespace) -> Folder:
    """Return the folder of the chosen kind of labels."""
    kind = "raw" if args.raw or args.merge_to is not None else "mapped"
    merged = f"_merged{args.merge_to}" if args.merge_to is not None else ""
    return Folder(output_root(args), f"pseudo_semantic_{kind}_k{args.k}{merged}", ".png")


def fit_frames(args: argparse.Namespace) -> list[Frame]:
    """Return all frames of the fitting split, whatever shard or split this run labels."""
    chosen = copy.copy(args)
    chosen.num_shards, chosen.shard = 1, 0
    if args.image_dir is None:
        chosen.split = args.fit_split
    return list_frames(chosen)


def centroids_for(args: argparse.Namespace, path: Path, read: Reader, frames: Sequence[Frame]) -> np.ndarray:
    """Load the centroids of an earlier run with the same settings, or fit and save them: (k, D) float32."""

    def fit() -> np.ndarray:
        samples = sample_vectors(frames, read, args.tokens_per_image, args.seed, "vectors")
        return fit_kmeans(shuffled_batches(samples, args.epochs, args.seed), args.k, args.seed)

    names = ("k", "seed", "features", "regions", "fit_split", "epochs", "tokens_per_image")
    return load_or_fit(path, fit, {name: getattr(args, name) for name in names}, args)


def label_table(
    args: argparse.Namespace,
    frames: Sequence[Frame],
    read: Reader,
    centroids: np.ndarray,
    labels_of: Reader,
) -> np.ndarray:
    """Return what is written for each cluster: (K,) uint8, or uint16 above 255 classes."""
    if args.raw or args.merge_to is not None:
        groups = np.arange(args.k) if args.raw else merge_centroids(centroids, args.merge_to)
        return groups.astype(np.uint8 if groups.max() < VOID else np.uint16)
    path = output_folder(args).directory / f"label_table_{args.mapping}.npy"
    with made_once(path, args.run_id, keep=False) as needed:
        if needed:
            table = mapping_table(args, frames, read, centroids, labels_of)
            write_npy(path, table)
            return table
    return read_npy(path, ndim=1)


def mapping_table(
    args: argparse.Namespace,
    frames: Sequence[Frame],
    read: Reader,
    centroids: np.ndarray,
    labels_of: Reader,
) -> np.ndarray:
    """Return the trainId that `--mapping` gives each cluster: (K,) uint8."""
    if args.mapping == "cause":
        return cause_table(frames, read, centroids, Folder(output_root(args), SEMANTIC_FOLDER, ".png"))
    if args.cityscapes_root is None:
        raise UserError("--mapping oracle: needs --cityscapes_root with ground truth; use --raw")
    return oracle_table(frames, labels_of, args.k, args.cityscapes_root)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_arguments(argv)
    frames, folder = list_frames(args), output_folder(args)
    fitting = fit_frames(args)
    source = vector_source(args, fitting, folder.directory)
    read = pooled_reader(source.read) if args.regions else source.read
    centroids = centroids_for(args, folder.directory / CENTROIDS, read, fitting)
    labels_of = cluster_map(source.read, centroids, args.regions, args.crf)
    table = label_table(args, fitting, read, centroids, labels_of)
    mapped = not args.raw and args.merge_to is None
    oracle = mapped and args.mapping == "oracle"
    inputs = [*source.inputs, *([Path(args.cityscapes_root) / GROUND_TRUTH_FOLDER] if oracle else [])]
    num_classes = 19 if mapped else int(table.max()) + 1

    def process(frame: Frame) -> None:
        write_png(folder.path(frame), table[labels_of(frame)])

    def show(frame: Frame) -> tuple[str, list[np.ndarray]]:
        labels = read_ids(folder.path(frame))
        return frame.stem, label_pictures(read_image(frame.image), labels, None, num_classes)

    run_stage(
        frames,
        process,
        [folder],
        args,
        script=SCRIPT,
        inputs=inputs,
        weights=source.weights,
        uses_ground_truth=oracle,
        workers=0,
        show=show,
        newer_than=folder.directory / CENTROIDS,
    )
    return 0


if __name__ == "__main__":
    run_script(main)
