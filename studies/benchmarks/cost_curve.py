"""Time and memory against the size of a frame, the number of clusters and of frames; what data sets cost."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from cups.errors import UserError
from cups.io.files import atomic_write, check_fields, read_json
from cups.io.markdown import markdown_table
from studies.benchmarks.cost_points import PARTS, TOKENS, Cost, Point, write_cost
from studies.benchmarks.measured_code import changed
from studies.benchmarks.settings import CostSettings
from studies.measure import duration, machine_line

Costs = Mapping[Point, Cost]
Curves = Mapping[str, Mapping[str, Sequence[Point]]]
SIZES = ((352, 704), (512, 1024), (704, 1408), (1024, 2048), (1408, 2816), (2048, 4096))
CLUSTERS = (27, 54, 100, 300, 1000)
FRAMES = (10, 30, 100, 300, 1000)
FULL, SMALL = (1024, 2048), (256, 512)
"""Size of frames in the curves over clusters, and in those over frames."""
USUAL_K = 300
TIMES = {"metric": 40, "clustering": 30, "assignment": 10, "instances": 10, "conversion": 10, "textons": 3}
"""Frames that a point of the other curves is the mean of; else 2."""
AXES: dict[str, tuple[str, ...]] = {
    "metric": ("size", "k", "frames"),
    "clustering": ("k", "frames"),
    "assignment": ("size", "k"),
    "instances": ("size", "frames"),
    "conversion": ("size", "frames"),
    "textons": ("size",),
    "prediction": ("size", "k", "frames"),
}
NEAR_LINEAR = 1.2
"""Largest exponent of the axis that counts as near linear."""
REASONS = {
    ("textons", "size"): "blurs pass large frames through memory, small ones through the cache",
    ("assignment", "size"): "scores of a band of rows fit the cache for small frames",
}
"""Why a curve is steeper, where one is."""
DATA_SETS = {"Cityscapes, train": 2975, "Cityscapes, all video frames": 86_000, "a million frames": 10**6}
NODES, CORES = (1, 8, 64), 32
LABELS, SCORED = "labels", "predictions, scored"
WORK = {LABELS: ("textons", "assignment", "instances", "conversion"), SCORED: ("prediction", "metric")}
"""Parts that each frame goes through once."""
FITTED = 2975
"""Frames that centroids are fitted on at most."""


def points(quick: bool = False) -> dict[str, dict[str, list[Point]]]:
    """Return the points of each curve: part -> axis -> points, in rising order."""
    curves: dict[str, dict[str, list[Point]]] = {}
    for part, axes in AXES.items():
        base = Point(part, *FULL, USUAL_K, TIMES.get(part, 2))
        frames = [count for count in FRAMES if part != "prediction" or count <= 100]
        small = SMALL if part != "clustering" else FULL
        found = {
            "size": [replace(base, height=height, width=width) for height, width in SIZES],
            "k": [replace(base, k=k) for k in CLUSTERS],
            "frames": [replace(base, height=small[0], width=small[1], frames=count) for count in frames],
        }
        curves[part] = {axis: found[axis][:2] if quick else found[axis] for axis in axes}
    return curves


def all_points(curves: Curves) -> list[Point]:
    """Return each point once."""
    return list(dict.fromkeys(p for axes in curves.values() for line in axes.values() for p in line))


def known(point: Point, folder: Path) -> Cost | None:
    """Return what was measured of a point before, or None."""
    file = folder / f"{point.name}.json"
    if not file.is_file():
        return None
    content = read_json(file, "delete it")
    check_fields(content, Cost, file, "delete it")
    return Cost(**content)


def what_changed(cost: Cost) -> list[str]:
    """Return what is no longer as it was at a measurement: source files, or the machine."""
    if not cost.code:
        return ["unknown code"]
    machine = [] if cost.machine == machine_line() else ["the machine"]
    return [*machine, *changed(cost.code)]


def measured(point: Point, folder: Path, keep: bool = False) -> Cost:
    """Return the cost of a point: of before, or measured now in a process of its own.

    Args:
        keep: take that of before also where code or machine have changed.
    """
    before = known(point, folder)
    if before is not None and (keep or not what_changed(before)):
        return before
    measure_apart(point, folder / f"{point.name}.json")
    now = known(point, folder)
    assert now is not None
    return now


def measure_apart(point: Point, output: Path) -> None:
    """Measure a point in a process of its own, forked from one that has the libraries in memory.

    Raises:
        UserError: it failed; its output says why.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["studies.benchmarks.cost_points"])
    process = context.Process(target=write_cost, args=(point, output), daemon=True)
    process.start()
    process.join()
    if process.exitcode:
        raise UserError(f"{point.name}: failed with exit code {process.exitcode}; see its output above")


def reach(point: Point, axis: str) -> float:
    """Return the place of a point on an axis."""
    return {"size": point.megapixels, "k": point.k, "frames": point.frames}[axis]


def exponent(line: Sequence[Point], axis: str, costs: Costs) -> float | None:
    """Return e of cost ~ axis^e from the ends of a curve: of a frame by size or k, of all by frames.

    Points without a cost do not count; of fewer than two there is none.
    """
    there = [point for point in line if point in costs]
    if len(there) < 2:
        return None
    ends = there[0], there[-1]
    paid = [costs[p].seconds * (p.frames if axis == "frames" else 1) for p in ends]
    return math.log(paid[1] / paid[0]) / math.log(reach(ends[1], axis) / reach(ends[0], axis))


def curve_table(axis: str, curves: Curves, costs: Costs) -> str:
    """Return a Markdown table: one row for each part, milliseconds of a frame and the peak of memory."""
    lines = {part: axes[axis] for part, axes in curves.items() if axis in axes}
    longest = max(lines.values(), key=len)
    heads = {
        "size": [f"{point.megapixels:.2g} MP" for point in longest],
        "k": [f"k = {point.k}" for point in longest],
        "frames": [f"{point.frames} frames" for point in longest],
    }[axis]
    rows = []
    for part, line in lines.items():
        cells = [_cell(costs.get(point)) for point in line]
        found = exponent(line, axis, costs)
        rows.append(
            (part, *cells, *[""] * (len(longest) - len(line)), "" if found is None else f"{found:.2f}")
        )
    return markdown_table(rows, ("ms / MiB", *heads, "exponent"))


def _cell(cost: Cost | None) -> str:
    return "not measured" if cost is None else f"{1000 * cost.seconds:.3g} / {cost.memory:.0f}"


def notes(curves: Curves, costs: Costs) -> str:
    """Return a line for each curve that is steeper than near linear, and why."""
    steep = [
        (part, axis, found)
        for part, axes in curves.items()
        for axis, line in axes.items()
        if (found := exponent(line, axis, costs)) is not None and found > NEAR_LINEAR
    ]
    if not steep:
        return f"No curve rises faster than with the power {NEAR_LINEAR:g} of its axis."
    return "\n".join(
        f"- {part} by {axis}: power {found:.2f}: {REASONS.get((part, axis), 'reason unknown')}"
        for part, axis, found in steep
    )


def data_set_table(costs: Costs) -> str:
    """Return what data sets cost at 1024 x 2048 on nodes, from the parts; clustering is done once."""
    rows = []
    for name, count in DATA_SETS.items():
        for work, parts in WORK.items():
            points = [Point(part, *FULL, USUAL_K, TIMES.get(part, 2)) for part in parts]
            fit = Point("clustering", *FULL, USUAL_K, FRAMES[-1])
            needed = [*points, fit] if work == LABELS else points
            if not all(point in costs for point in needed):
                cells = ["not measured"] * (1 + len(NODES))
            else:
                frame = sum(costs[point].seconds for point in points)
                # Centroids are fitted by one process, on the frames of the fitting split.
                once = costs[fit].seconds * min(count, FITTED) if work == LABELS else 0.0
                hours = (frame * count + once) / 3600
                shares = (math.ceil(count / nodes / CORES) for nodes in NODES)
                cells = [f"{hours:.0f}", *(duration(frame * share + once) for share in shares)]
            rows.append((name, f"{count:,}".replace(",", " "), work, *cells))
    nodes = (f"{nodes} node{'s' * (nodes > 1)}" for nodes in NODES)
    return markdown_table(rows, ("", "frames", "work", "core hours", *nodes))


def memory_line(costs: Costs) -> str:
    """Return what the processes of a node take together."""
    lines = []
    for work, parts in WORK.items():
        found = [costs.get(Point(part, *FULL, USUAL_K, TIMES.get(part, 2))) for part in parts]
        peak = max((cost.memory for cost in found if cost is not None), default=0.0)
        lines.append(f"{CORES * peak / 1024:.0f} GiB ({work})")
    return f"{CORES} processes at their peaks take " + ", ".join(lines) + "."


def told(curves: Curves, costs: Costs) -> str:
    """Return which points are missing, and which are of other code or another machine."""
    points = all_points(curves)
    missing = [point.name for point in points if point not in costs]
    other = {
        point.name: found for point in points if point in costs and (found := what_changed(costs[point]))
    }
    lines = []
    if missing:
        lines.append(f"Not measured, {len(missing)} of {len(points)} points: {', '.join(missing)}.")
    if other:
        files = sorted({name for names in other.values() for name in names})
        lines.append(
            f"Measured before a change of what they ran, {len(other)} points: {', '.join(sorted(other))}. "
            f"Changed since: {', '.join(f'`{name}`' for name in files)}."
        )
    if not lines:
        return "All points were measured on the code as it stands."
    return "\n\n".join(lines)


def render(curves: Curves, costs: Costs, machine: str) -> str:
    """Return the page."""
    return f"""# What it costs

Made by `python benchmarks/cost_curve.py`. All times are processor time of one frame on one core. The machine
may have been busy with other things, which slows a core down: read the numbers as an upper bound, and the
ratios along a row as the curve. Memory is the peak of a process that was forked from one with the libraries
in memory, as a worker is. Machine: {machine}.

Parts: features without a network (textons); k-means on {USUAL_K} clusters unless said otherwise (clustering,
{TOKENS} vectors of a frame); pixels to clusters (assignment); objects of depth (instances); conversion to
the training format; panoptic maps of the small network (prediction, random weights); panoptic quality against
ground truth (metric; the matching at the end is shared among the frames). DINOv2, CAUSE and depth networks
are not among them: they want a GPU, and none was at hand.

## Size of a frame

{curve_table("size", curves, costs)}

The exponent e says that the cost goes with the size to the power of e: 1 is linear.

## Clusters or pseudo-classes

At 1024 x 2048.

{curve_table("k", curves, costs)}

## Frames

At 256 x 512. The exponent is that of the cost of all frames.

{curve_table("frames", curves, costs)}

## Near linear?

{notes(curves, costs)}

## Data sets

Computed from the parts above, not run: 1024 x 2048, k = {USUAL_K}, nodes of {CORES} cores that are as fast as
this one and do not wait for each other; k-means runs in one process, on at most {FITTED} frames. Labels are
{" + ".join(WORK[LABELS])} + clustering; predictions are {" + ".join(WORK[SCORED])}. Training is not in it.
What two cores gain over one in truth is measured by `benchmarks/scaling.py`.

{data_set_table(costs)}

{memory_line(costs)}

## What was measured

{told(curves, costs)}
"""


def measure_all(settings: CostSettings) -> int:
    """Measure all points that are missing, and write the page."""
    curves = points(settings.quick)
    costs = {}
    for point in tqdm(all_points(curves), desc="cost", unit="point", disable=settings.present):
        found = (
            known(point, settings.runs) if settings.present else measured(point, settings.runs, settings.keep)
        )
        if found is not None:
            costs[point] = found
    page = render(curves, costs, machine_line())
    atomic_write(settings.output, lambda path: path.write_text(page, encoding="utf-8"))
    return 0


assert set(AXES) == set(PARTS)
