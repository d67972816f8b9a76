"""Stage 1: which pseudo-classes are things, from semantics and depth alone, without labels.

A thing stands on the street in front of what is behind it and has the size of a road user. Depth shows such
regions without any class (`cups.ops.ground`); the score of a pseudo-class is the share of its pixels inside
them. The other statistics are printed and stored so that a person sees why.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cups.errors import UserError, run_main
from cups.io.provenance import any_ground_truth, code_version, describe_input
from cups.ops.depth_edges import REFERENCE_HEIGHT
from cups.ops.ground import ObjectModel
from pseudo_labels.algorithms.thing_stuff import (
    ClassSums,
    Statistics,
    choose_things,
    frame_sums,
    statistics_of,
)
from pseudo_labels.inputs.labels import (
    DEPTH_FOLDER,
    MAPPED_SEMANTICS,
    SPLIT_FILE,
    check_aspect,
    count_classes,
    read_depth,
    read_semantic,
    write_split,
)
from pseudo_labels.steps.arguments import add_outline_arguments, check_outlines
from pseudo_labels.steps.step import Folder, Frame, list_frames, make_parser, output_root

SCRIPT = "classify_stuff_things"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatherSums:
    """Picklable reader: the sums of one frame."""

    semantics: Folder
    depths: Folder
    num_classes: int
    model: ObjectModel

    def __call__(self, frame: Frame) -> ClassSums | None:
        """Read semantics and depth, at most `REFERENCE_HEIGHT` rows, and count."""
        semantic = read_semantic(self.semantics.path(frame), self.num_classes)
        depth = read_depth(self.depths.path(frame))
        check_aspect(self.depths.path(frame), depth.shape, semantic.shape)
        height = min(REFERENCE_HEIGHT, *semantic.shape[:1], *depth.shape[:1])
        size = (max(1, round(semantic.shape[1] * height / semantic.shape[0])), height)
        semantic = cv2.resize(semantic, size, interpolation=cv2.INTER_NEAREST_EXACT)
        # Nearest as well: a mean of depths across an edge is a surface that does not exist.
        depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return frame_sums(semantic, depth, self.num_classes, self.model)


def gather(frames: Sequence[Frame], read: GatherSums, workers: int) -> tuple[ClassSums, int]:
    """Sum over frames; returns the sums and the number of frames with a street.

    Raises:
        UserError: unreadable files, or no frame in which a street could be fitted.
    """
    total, used = None, 0
    for sums in tqdm(_each(frames, read, workers), total=len(frames), desc=SCRIPT, unit="img"):
        if sums is not None:
            total = sums if total is None else total + sums
            used += 1
    if total is None:
        raise UserError(
            f"{read.depths.directory}: no frame shows a street (depth falling towards the bottom); "
            "check the depth maps, or list the things by hand with --thing_classes in the next step"
        )
    if used < len(frames):
        log.warning("no street found in %d of %d frames; they were left out", len(frames) - used, len(frames))
    return total, used


def _each(frames: Sequence[Frame], read: GatherSums, workers: int) -> Iterator[ClassSums | None]:
    if workers < 1:
        yield from map(read, frames)
        return
    with ProcessPoolExecutor(workers, get_context("forkserver")) as pool:
        yield from pool.map(read, frames, chunksize=4)


def table(statistics: Statistics, things: Sequence[int], occurs: np.ndarray) -> str:
    """Return a markdown table of the classes by falling score."""
    rows = [
        "| class | kind | score | % of pixels | regions / image | area % | extent | front edges | height |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for index in np.argsort(-statistics.score, kind="stable"):
        if occurs[index]:
            kind = "thing" if index in things else "stuff"
            rows.append(
                f"| {index} | {kind} | {statistics.score[index]:.2f} "
                f"| {100 * statistics.share_of_pixels[index]:.2f} "
                f"| {statistics.regions_per_image[index]:.1f} | {100 * statistics.region_area[index]:.2f} "
                f"| {statistics.vertical_extent[index]:.2f} | {statistics.front_edges[index]:.2f} "
                f"| {statistics.height_above_street[index]:.2f} |"
            )
    return "\n".join(rows)


DESCRIPTIONS = {
    "score": "share of the class's pixels inside object-like regions of the depth map",
    "share_of_pixels": "share of all pixels",
    "regions_per_image": "8-connected regions per image that has the class",
    "region_area": "mean area of a region, share of the image",
    "vertical_extent": "mean height of a region (by area), share of the image height",
    "front_edges": "share of the class's outline that stands in front of something farther",
    "height_above_street": "mean height above the street in camera heights, cut at 4",
}


def describe(
    statistics: Statistics, things: Sequence[int], used: int, args: argparse.Namespace
) -> dict[str, object]:
    """Return the JSON content: things, stuffs, settings, and every statistic of every class."""
    num_classes = len(statistics.score)
    inputs = [describe_input(folder) for folder in input_folders(args)]
    return {
        "things": list(things),
        "stuffs": [index for index in range(num_classes) if index not in things],
        "num_pseudo_classes": num_classes,
        "threshold": args.threshold if args.num_things is None else None,
        "num_things": args.num_things,
        "grad_threshold": args.grad_threshold,
        "depth_blur": args.depth_blur,
        "frames": used,
        "descriptions": DESCRIPTIONS,
        "classes": {
            str(index): {name: round(float(getattr(statistics, name)[index]), 5) for name in DESCRIPTIONS}
            for index in range(num_classes)
        },
        "script": SCRIPT,
        "code_version": code_version(),
        "uses_ground_truth": any_ground_truth([entry["uses_ground_truth"] for entry in inputs]),
    }


def input_folders(args: argparse.Namespace) -> tuple[Path, Path]:
    """Return the semantic and the depth folder."""
    return output_root(args) / args.semantic_subdir, output_root(args) / args.depth_subdir


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = make_parser((__doc__ or "").splitlines()[0], shards=False)
    parser.add_argument("--semantic_subdir", default=MAPPED_SEMANTICS, help="semantic folder")
    parser.add_argument("--depth_subdir", default=DEPTH_FOLDER, help="depth folder")
    parser.add_argument(
        "--num_semantic_classes", type=int, help="(default: the highest class found, plus one)"
    )
    parser.add_argument("--output_json", type=Path, help=f"(default: {SPLIT_FILE} in the semantic folder)")
    parser.add_argument("--sample", type=int, default=500, help="look at N evenly spread frames at most")
    add_outline_arguments(parser.add_argument_group("outlines"), grad_threshold=ObjectModel().edge)
    choice = parser.add_argument_group("choice")
    choice.add_argument("--threshold", type=float, default=0.4, help="score from which a class is a thing")
    choice.add_argument("--num_things", type=int, help="take this many of the best instead")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    if not 0 <= args.threshold <= 1 or (args.num_things is not None and args.num_things < 1):
        raise UserError(f"--threshold {args.threshold}: lies in 0-1, --num_things is 1 or more")
    check_outlines(args)
    frames, root = list_frames(args), output_root(args)
    if len(frames) > args.sample > 0:
        frames = [frames[i] for i in np.linspace(0, len(frames) - 1, args.sample).round().astype(int)]
    semantics = Folder(root, args.semantic_subdir, ".png")
    semantics.require(frames, "generate the semantics first, or check --semantic_subdir")
    depths = Folder(root, args.depth_subdir, ".npy")
    depths.require(frames, "run pseudo_labels/generate_depth_spidepth.py first")
    num_classes = args.num_semantic_classes or count_classes(semantics, frames)
    model = ObjectModel(edge=args.grad_threshold, blur=args.depth_blur)
    sums, used = gather(frames, GatherSums(semantics, depths, num_classes, model), args.num_workers)
    statistics, occurs = statistics_of(sums, used), sums.pixels > 0
    things = choose_things(statistics.score, occurs, args.threshold, args.num_things)
    target = args.output_json or semantics.directory / SPLIT_FILE
    write_split(target, describe(statistics, things, used, args))
    print(table(statistics, things, occurs))
    print(f"things: {' '.join(map(str, things)) or 'none'} -> {target}")
    return 0


if __name__ == "__main__":
    run_main(main)
