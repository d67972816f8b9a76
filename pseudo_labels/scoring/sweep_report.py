"""The sweep of instance splitting as table, heat map and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cups.io.files import atomic_write, write_csv, write_json
from cups.io.markdown import markdown_table, percent
from cups.metrics.protocol import Protocol
from pseudo_labels.scoring.instance_sweep import Configuration

METRICS = ("pq", "sq", "rq", "pq_things", "sq_things", "rq_things", "pq_stuff")
COLUMNS = ("PQ", "SQ", "RQ", "PQ things", "SQ things", "RQ things", "PQ stuff")
MATCHING = (
    "One Hungarian matching of pseudo-classes to classes serves all rows: by the pixels that the semantic "
    "maps share with ground truth over all these images, things and stuff apart, left-over clusters to their "
    "best class. Instances take no part in it."
)


def note(default: Configuration) -> str:
    """Say that choosing by a sweep is choosing with labels, and what the label-free choice is."""
    return (
        "These numbers were computed with ground truth: they analyse, they do not choose. Taking the best "
        "row is choosing with labels, and on val it is tuning on what is reported; `--split train` keeps "
        "val unseen. The label-free choice is the default of `generate_depth_guided_instances.py` for this "
        "depth: "
        f"--grad_threshold {default.grad_threshold:g} --min_area {default.min_area}."
    )


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


def report(
    rows: Sequence[Row], default: Configuration, protocol: Protocol, num_frames: int, split: str, title: str
) -> str:
    """Return the Markdown: what it is, the best rows, the label-free one, the table."""
    lines = [
        f"# {title}",
        "",
        f"{num_frames} images of {split}. {protocol}.",
        "",
        note(default),
        "",
        MATCHING,
        "",
    ]
    for metric, name in (("pq", "PQ"), ("pq_things", "PQ things")):
        best, plain = best_row(rows, metric), best_row(rows, metric, baseline=True)
        assert best is not None
        text = f"- Best {name}: {percent(best.value(metric))} ({best.configuration.name})"
        if plain is not None:
            text += f"; best baseline {percent(plain.value(metric))} ({plain.configuration.name})"
        lines.append(f"{text}.")
    chosen = next((row for row in rows if row.configuration == default), None)
    if chosen is not None:
        values = f"PQ {percent(chosen.value('pq'))}, PQ things {percent(chosen.value('pq_things'))}"
        lines.append(f"- Label-free choice ({default.name}): {values}.")
    table = [
        (
            row.configuration.name + (" (default)" if row.configuration == default else ""),
            *(percent(row.value(metric)) for metric in METRICS),
            row.ranks["pq"],
            row.ranks["pq_things"],
            *(percent(row.scores["upstream"][metric]) for metric in ("pq", "pq_things")),
        )
        for row in rows
    ]
    columns = ("", *COLUMNS, "rank", "rank things", "PQ (upstream)", "PQ things (upstream)")
    return "\n".join([*lines, "", markdown_table(table, columns)])


def write_heat_map(path: Path, rows: Sequence[Row], title: str, default: Configuration | None = None) -> None:
    """Draw PQ and PQ of things over threshold and least area; the baseline is the last row of squares.

    Args:
        default: configuration to mark as the label-free one.
    """
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
            if row.configuration == default:
                marks.append((place, "#f2b134", "--"))
            if row is best:
                marks.append((place, "#e4572e", "-"))
        picture = _draw_squares(axis, grid, marks)
        against = f" (components {percent(plain.value(metric))})" if plain is not None else ""
        axis.set_title(f"{name}: best {percent(best.value(metric)) if best else '-'}{against}", fontsize=11)
        axis.set_xticks(range(len(areas)), areas)
        axis.set_xlabel("least area, pixels of a 512-row image")
        if plain is not None:
            axis.axhline(len(thresholds) - 1.5, color="white", linewidth=4)
        figure.colorbar(picture, ax=axis, fraction=0.05, pad=0.02).outline.set_visible(False)
    names = ["components" if math.isinf(threshold) else f"{threshold:g}" for threshold in thresholds]
    axes[0].set_yticks(range(len(thresholds)), names)
    axes[0].set_ylabel("depth step that cuts")
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
    write_csv(folder / "sweep.csv", list(lines[0]), [list(line.values()) for line in lines])
    write_json(folder / "sweep.json", {**content, "rows": lines})
