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
import csv
import io
import json
import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import UserError
from cups.evaluation.results import markdown_table, percent
from cups.io.png import atomic_write
from cups.io.provenance import code_version, describe_input
from cups.metrics.protocol import Protocol
from cups.taxonomy import class_set
from pseudo_labels.generate_depth_guided_instances import (
    SplitSettings,
    add_splitting_arguments,
    check_splitting,
)
from pseudo_labels.inputs.labels import DEPTH_FOLDER, thing_classes
from pseudo_labels.scoring.instance_sweep import Configuration, FrameTables, SweepFrame, score_tables
from pseudo_labels.steps.arguments import add_blur_argument, check_blur
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
DEFAULT = Configuration(SplitSettings(()).grad_threshold, SplitSettings(()).min_area)
"""What `generate_depth_guided_instances.py` does unless told otherwise; it was not chosen by a sweep."""
METRICS = ("pq", "sq", "rq", "pq_things", "sq_things", "rq_things", "pq_stuff")
COLUMNS = ("PQ", "SQ", "RQ", "PQ things", "SQ things", "RQ things", "PQ stuff")
NOTE = (
    "These numbers were computed with ground truth: they analyse, they do not choose. Taking the best row is "
    "choosing with labels, and on val it is tuning on what is reported; `--split train` keeps val unseen. "
    "The label-free choice is the default of `generate_depth_guided_instances.py`, fixed before any sweep: "
    f"--grad_threshold {DEFAULT.grad_threshold:g} --min_area {DEFAULT.min_area}."
)
MATCHING = (
    "One Hungarian matching of pseudo-classes to classes serves all rows: by the pixels that the semantic "
    "maps share with ground truth over all these images, things and stuff apart, left-over clusters to their "
    "best class. Instances take no part in it."
)


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


@dataclass(frozen=True)
class Row:
    """One configuration with its scores.

    Attributes:
        scores: void rule -> metric -> value in 0-1 (nan: no such class).
        ranks: metric -> place under the standard rule, 1 is best; equal values share a place.
    """

    configuration: Configuration
    scores: dict[str, dict[str, float]]
    ranks: dict[str, int]

    def value(self, metric: str) -> float:
        """The value under the standard void rule."""
        return self.scores["standard"][metric]


def ranked_rows(configurations: Sequence[Configuration], scores: Sequence[Any]) -> list[Row]:
    """Return the rows by falling PQ; ties keep the order of the grid."""
    values = [{rule: {metric: float(of[rule][metric]) for metric in METRICS} for rule in of} for of in scores]

    def place(metric: str, index: int) -> int:
        own = _order(values[index]["standard"][metric])
        return 1 + sum(_order(other["standard"][metric]) > own for other in values)

    rows = [
        Row(configuration, values[index], {metric: place(metric, index) for metric in ("pq", "pq_things")})
        for index, configuration in enumerate(configurations)
    ]
    return sorted(rows, key=lambda row: row.ranks["pq"])


def _order(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def best_row(rows: Sequence[Row], metric: str, baseline: bool = False) -> Row | None:
    """Return the best depth-guided row (or baseline row) by a metric, None without any."""
    chosen = [row for row in rows if (row.configuration.grad_threshold is None) == baseline]
    return max(chosen, key=lambda row: _order(row.value(metric)), default=None)


def report(rows: Sequence[Row], protocol: Protocol, num_frames: int, split: str, title: str) -> str:
    """Return the Markdown: what it is, the best rows, the table."""
    lines = [f"# {title}", "", f"{num_frames} images of {split}. {protocol}.", "", NOTE, "", MATCHING, ""]
    for metric, name in (("pq", "PQ"), ("pq_things", "PQ things")):
        best, plain = best_row(rows, metric), best_row(rows, metric, baseline=True)
        assert best is not None
        text = f"- Best {name}: {percent(best.value(metric))} ({best.configuration.name})"
        if plain is not None:
            text += f"; best baseline {percent(plain.value(metric))} ({plain.configuration.name})"
        lines.append(f"{text}.")
    default = next((row for row in rows if row.configuration == DEFAULT), None)
    if default is not None:
        values = f"PQ {percent(default.value('pq'))}, PQ things {percent(default.value('pq_things'))}"
        lines.append(f"- Label-free choice ({default.configuration.name}): {values}.")
    table = [
        (
            row.configuration.name + (" (default)" if row.configuration == DEFAULT else ""),
            *(percent(row.value(metric)) for metric in METRICS),
            row.ranks["pq"],
            row.ranks["pq_things"],
            *(percent(row.scores["upstream"][metric]) for metric in ("pq", "pq_things")),
        )
        for row in rows
    ]
    columns = ("", *COLUMNS, "rank", "rank things", "PQ (upstream)", "PQ things (upstream)")
    return "\n".join([*lines, "", markdown_table(table, columns)])


def write_heat_map(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw PQ and PQ of things over threshold and least area; the baseline is the last row of squares."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    thresholds = sorted({row.configuration.grad_threshold or math.inf for row in rows})
    areas = sorted({row.configuration.min_area for row in rows})
    size = (2 * (1.6 + 0.85 * len(areas)), 1.9 + 0.48 * len(thresholds))
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    for axis, metric, name in zip(axes, ("pq", "pq_things"), ("PQ", "PQ things"), strict=True):
        grid = np.full((len(thresholds), len(areas)), np.nan)
        best, plain = best_row(rows, metric), best_row(rows, metric, baseline=True)
        marks = []
        for row in rows:
            place = (
                thresholds.index(row.configuration.grad_threshold or math.inf),
                areas.index(row.configuration.min_area),
            )
            grid[place] = 100 * row.value(metric)
            if row.configuration == DEFAULT:
                marks.append((place, "#f2b134", "--"))
            if row is best:
                marks.append((place, "#e4572e", "-"))
        picture = _draw_squares(axis, grid, marks)
        against = f" (components {percent(plain.value(metric))})" if plain is not None else ""
        axis.set_title(f"{name}: best {percent(best.value(metric)) if best else '-'}{against}", fontsize=11)
        axis.set_xticks(range(len(areas)), areas)
        axis.set_xlabel("least area, pixels")
        if plain is not None:
            axis.axhline(len(thresholds) - 1.5, color="white", linewidth=4)
        figure.colorbar(picture, ax=axis, fraction=0.05, pad=0.02).outline.set_visible(False)
    names = ["components" if math.isinf(threshold) else f"{threshold:g}" for threshold in thresholds]
    axes[0].set_yticks(range(len(thresholds)), names)
    axes[0].set_ylabel("depth step that cuts (log)")
    key = "red box: best; dashed: label-free default" if len(marks) > 1 else "red box: best"
    figure.suptitle(f"{title}\n{key}", fontsize=10, color="#707480")
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=140, metadata={"Software": None}))
    plt.close(figure)


def _draw_squares(axis: Any, grid: np.ndarray, marks: Sequence[tuple[tuple[int, int], str, str]]) -> Any:
    """Draw (rows, columns) values in percent, nan empty, and boxes (place, colour, line style)."""
    from matplotlib.patches import Rectangle

    picture = axis.imshow(grid, cmap="YlGnBu", aspect="auto")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for (down, across), value in np.ndenumerate(grid):
        if not math.isnan(value):
            ink = "white" if value > middle else "#20242c"
            axis.text(across, down, f"{value:.1f}", ha="center", va="center", color=ink, fontsize=9)
    for (down, across), color, style in marks:
        corner = (across - 0.46, down - 0.46)
        axis.add_patch(
            Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=color, linewidth=2.2, linestyle=style)
        )
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return picture


def write_numbers(folder: Path, rows: Sequence[Row], content: dict[str, Any]) -> None:
    """Write `sweep.json` (everything) and `sweep.csv` (a line per configuration and void rule)."""
    lines = [
        {
            "grad_threshold": row.configuration.grad_threshold,
            "min_area": row.configuration.min_area,
            "void_rule": rule,
            **{metric: None if math.isnan(value) else value for metric, value in values.items()},
            **{f"rank_{metric}": rank for metric, rank in row.ranks.items()},
        }
        for row in rows
        for rule, values in row.scores.items()
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    data = json.dumps(content | {"rows": lines}, indent=2, default=str) + "\n"
    atomic_write(folder / "sweep.csv", lambda temporary: temporary.write_text(text.getvalue()))
    atomic_write(folder / "sweep.json", lambda temporary: temporary.write_text(data))


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
