"""Sweep threshold and least area of depth-guided instance splitting; rank by PQ and by PQ of things.

Semantics, depth and ground truth of a frame are read once for all configurations. The default grid has 31:
six thresholds times five areas, and the defaults of `generate_depth_guided_instances.py`; connected
components without depth, at each area, are the baseline: of each thing class with `--proposals classes`, else
of all thing classes together. Pseudo-classes are matched to classes once, by the pixels that the semantic
maps share with ground truth (Hungarian, things and stuff apart): all configurations are scored under that one
matching, and differ by their instances only.

It reads gtFine: this is analysis. To choose a configuration by it is to choose with labels, and to do so on
val is to tune on what is reported; `--split train --max_images N` at least keeps val unseen. Label-free
pipelines take the defaults, whose row is marked.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cups.errors import UserError
from cups.io.files import atomic_write
from cups.io.provenance import code_version, describe_input
from cups.metrics.protocol import Protocol
from cups.taxonomy import class_set
from pseudo_labels.algorithms.instance_splitting import SplitSettings
from pseudo_labels.inputs.labels import DEPTH_FOLDER, thing_classes
from pseudo_labels.scoring.instance_sweep import Configuration, FrameTables, SweepFrame, score_tables
from pseudo_labels.scoring.sweep_report import (
    DEFAULT,
    MATCHING,
    NOTE,
    ranked_rows,
    report,
    write_heat_map,
    write_numbers,
)
from pseudo_labels.steps.arguments import (
    add_blur_argument,
    add_splitting_arguments,
    check_blur,
    check_splitting,
)
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.step import (
    Folder,
    all_frames,
    is_complete,
    list_frames,
    make_parser,
    output_root,
    run_stage,
)

log = logging.getLogger(__name__)
SCRIPT = "sweep_k50_spidepth"
TABLES = "tables"
GRAD_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
MIN_AREAS = (200, 400, 600, 800, 1000)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = make_parser((__doc__ or "").split("\n\n")[0])
    parser.set_defaults(split="val", num_workers=len(os.sched_getaffinity(0)))
    parser.add_argument("--semantic_subdir", default="pseudo_semantic_raw_k50", help="semantic folder")
    parser.add_argument("--depth_subdir", default=DEPTH_FOLDER, help="depth folder")
    grid = parser.add_argument_group("grid")
    grid.add_argument(
        "--grad_thresholds",
        type=float,
        nargs="+",
        help=f"log-depth steps of a cut (default: {' '.join(map(str, GRAD_THRESHOLDS))})",
    )
    grid.add_argument(
        "--min_areas",
        type=int,
        nargs="+",
        help="least areas in pixels at the size of the label files "
        f"(default: {' '.join(map(str, MIN_AREAS))}; without either flag also the generator's defaults)",
    )
    grid.add_argument("--no_cc_baseline", action="store_true", help="leave out connected components")
    shared = parser.add_argument_group("splitting, the same in all configurations")
    add_splitting_arguments(shared)
    add_blur_argument(shared)
    things = parser.add_mutually_exclusive_group()
    things.add_argument("--thing_classes", type=int, nargs="+", help="ids of the thing classes")
    things.add_argument("--split_json", type=Path, help="from classify_stuff_things.py (or the folder's)")
    parser.add_argument(
        "--num_semantic_classes", type=int, help="pseudo-classes (default: by the folder's name, ..._k{N})"
    )
    parser.add_argument("--num_classes", type=int, choices=(27, 19, 7), default=19, help="classes to score")
    parser.add_argument(
        "--output_dir", type=Path, help="(default: sweeps/{semantics}+{depth} under the root)"
    )
    return parser


def configurations_of(args: argparse.Namespace) -> tuple[Configuration, ...]:
    """Return the grid, then the baseline.

    Raises:
        UserError: impossible or repeated values.
    """
    thresholds, areas = args.grad_thresholds or GRAD_THRESHOLDS, args.min_areas or MIN_AREAS
    if min(thresholds) <= 0:
        raise UserError(f"--grad_thresholds {min(thresholds)}: must be positive")
    if min(areas) < 1:
        raise UserError(f"--min_areas {min(areas)}: must be 1 or more")
    for flag, values in (("--grad_thresholds", thresholds), ("--min_areas", areas)):
        if len(set(values)) < len(values):
            raise UserError(f"{flag} {' '.join(map(str, values))}: holds a value twice; leave it out once")
    grid = [Configuration(threshold, area) for threshold in sorted(thresholds) for area in sorted(areas)]
    if args.grad_thresholds is None and args.min_areas is None:
        grid.append(DEFAULT)
    if not args.no_cc_baseline:
        grid += [Configuration(None, area) for area in sorted(areas)]
    return tuple(grid)


def num_clusters(args: argparse.Namespace) -> int:
    """Return K.

    Raises:
        UserError: neither given nor in the folder's name, or impossible.
    """
    named = re.search(r"_(?:k|merged)(\d+)$", args.semantic_subdir)
    if args.num_semantic_classes is None and named is None:
        raise UserError(f"--num_semantic_classes: missing; {args.semantic_subdir} does not tell it")
    count = args.num_semantic_classes or int(named[1])  # type: ignore[index]
    if not 0 < count < 65535:
        raise UserError(f"--num_semantic_classes {count}: must be between 1 and 65534")
    return count


def publish(args: argparse.Namespace, folder: Folder, process: SweepFrame, inputs: Sequence[Path]) -> None:
    """Score the tables of all frames and write JSON, CSV, heat map and Markdown.

    Raises:
        UserError: no frame could be read.
    """
    frames = [frame for frame in all_frames(args) if folder.exists(frame)]
    if not frames:
        raise UserError(f"{folder.directory}: no frame could be read; see failures.json there")
    classes = class_set(args.num_classes)
    tables = [FrameTables.read(folder.path(frame)) for frame in frames]
    matching, scores = score_tables(tables, process.settings.things, classes)
    rows = ranked_rows(process.configurations, scores)
    fitted = f"the semantic maps of the {args.split} images scored"
    protocol = Protocol(f"pseudo-labels-{args.num_classes}", args.num_classes, fitted_on=fitted)
    title = f"Depth-guided splitting: {args.semantic_subdir}, {args.depth_subdir}"
    text = report(rows, protocol, len(frames), args.split, title)
    content = {
        "note": NOTE,
        "matching": MATCHING,
        "protocol": str(protocol),
        "split": args.split,
        "frames": len(frames),
        "assignment": matching.tolist(),
        "label_free_default": {"grad_threshold": DEFAULT.grad_threshold, "min_area": DEFAULT.min_area},
        "uses_ground_truth": True,
        "code_version": code_version(),
        "inputs": [describe_input(path) for path in inputs],
    }
    target = folder.root
    write_numbers(target, rows, content)
    atomic_write(target / "sweep.md", lambda temporary: temporary.write_text(text + "\n"))
    write_heat_map(target / "sweep.png", rows, title)
    print(text)
    print(f"results: {target}/sweep.json, .csv, .md, .png")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    if args.image_dir is not None:
        raise UserError("--image_dir: has no ground truth to compare with; give --cityscapes_root")
    check_splitting(args)
    check_blur(args)
    configurations, count = configurations_of(args), num_clusters(args)
    frames, root = list_frames(args), output_root(args)
    semantics = Folder(root, args.semantic_subdir, ".png")
    semantics.require(frames, "generate the semantics of this split first, or check --semantic_subdir")
    depths = Folder(root, args.depth_subdir, ".npy")
    depths.require(frames, "run pseudo_labels/generate_depth_spidepth.py first, or check --depth_subdir")
    things = thing_classes(semantics, args.thing_classes, args.split_json)
    if max(things) >= count:
        raise UserError(f"--thing_classes: {max(things)} is no pseudo-class, there are {count}")
    # Recorded, so that a later run with another split of classes does not take these tables for its own.
    args.thing_classes = list(things)
    target = args.output_dir or root / "sweeps" / f"{args.semantic_subdir}+{args.depth_subdir}"
    folder = Folder(target, TABLES, ".npz")
    settings = SplitSettings(
        things,
        dilation=args.dilation,
        sigma=args.sigma,
        proposals=args.proposals,
        min_thing_share=args.min_thing_share,
        depth_blur=args.depth_blur,
    )
    process = SweepFrame(
        Path(args.cityscapes_root),
        semantics,
        depths,
        folder,
        configurations,
        settings,
        count,
        args.num_classes,
    )
    truth = Path(args.cityscapes_root) / "gtFine"
    inputs = (semantics.directory, depths.directory, truth)
    run_stage(frames, process, [folder], args, script=SCRIPT, inputs=inputs, uses_ground_truth=True)
    if is_complete(args, [folder]):
        publish(args, folder, process, inputs)
    return 0


if __name__ == "__main__":
    run_script(main)
