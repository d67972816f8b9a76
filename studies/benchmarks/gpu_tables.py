"""The tables of what was measured on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cups.io.markdown import markdown_table
from studies.benchmarks.settings import GpuSettings
from studies.measure import describe_machine, machine_line

Results = Mapping[str, Mapping[str, Any]]
"""Name of a row -> its result."""
Cells = Callable[[str, Mapping[str, Any]], tuple[str, ...]]
"""Name and result of a row -> what stands behind the name."""
SHOWN_PLACES = 5


def _no_number(result: Mapping[str, Any]) -> str | None:
    """Return what stands in a row that has no numbers."""
    if result.get("out_of_memory"):
        return "out of memory"
    reason: str | None = result.get("failed") or result.get("skipped")
    return reason


def parity_table(results: Results) -> str:
    """Return the largest deviation of each stored quantity."""
    rows: list[tuple[str, ...]] = []
    for name, result in results.items():
        if reason := _no_number(result):
            rows.append((name, reason, "", ""))
        for quantity, (found, allowed) in result.get("deviations", {}).items():
            # JSON holds no infinity: another shape than the stored one.
            deviation = "other shape" if found is None or found == float("inf") else f"{found:.2g}"
            rows.append((name, quantity, deviation, f"{allowed:.2g}"))
    return markdown_table(rows, ("", "quantity", "largest deviation", "allowed on a CPU"))


def curve_table(results: Results) -> str:
    """Return how far the curves lie apart, and where they end."""
    rows: list[tuple[str, ...]] = []
    for name, result in results.items():
        if reason := _no_number(result):
            rows.append((name, reason, ""))
            continue
        final = result["final"]
        apart = {"fp32": "", "bf16": result["difference"], "fp32, other draws": result["yardstick"]}
        for kind, difference in apart.items():
            shown = difference if difference == "" else f"{difference:.4f}"
            rows.append((f"{name}, {kind}", shown, f"{final[kind]:.4f}"))
    return markdown_table(rows, ("", "mean absolute difference from fp32", "loss at the end (last tenth)"))


def _one_row_each(results: Results, columns: tuple[str, ...], cells: Cells) -> str:
    rows = []
    for name, result in results.items():
        reason = _no_number(result)
        rest = cells(name, result) if reason is None else (reason, *[""] * (len(columns) - 2))
        rows.append((name, *rest))
    return markdown_table(rows, columns)


def speed_table(results: Results) -> str:
    """Return images/s and memory, beside ours with the same batch."""

    def cells(name: str, result: Mapping[str, Any]) -> tuple[str, ...]:
        rate, peak = result["images_per_second"], result["peak_gib"]
        base = results.get(f"ours, batch {name.rpartition(' ')[2]}", {}).get("images_per_second")
        against = f"{rate / base:.2f}x" if base else ""
        return f"{rate:.3g}", against, "" if peak is None else f"{peak:.1f} GiB"

    return _one_row_each(results, ("", "images/s", "against ours", "peak memory"), cells)


def sync_table(results: Results) -> str:
    """Return the waits of a step of two images, and the places of most."""

    def cells(_: str, result: Mapping[str, Any]) -> tuple[str, ...]:
        places = list(result["places"].items())[:SHOWN_PLACES]
        listed = ", ".join(f"{place} {count}" for place, count in places)
        return *(str(result[kind]) for kind in ("syncs", "ours", "detectron2", "others")), listed

    columns = ("", "waits a step", "our code", "detectron2", "others", "most frequent places")
    return _one_row_each(results, columns, cells)


def profile_table(results: Results) -> str:
    """Return how long the GPU computes in a step, and in which operators."""

    def cells(_: str, result: Mapping[str, Any]) -> tuple[str, ...]:
        busy = "" if result["busy"] is None else f"{result['busy']:.0%}"
        operators = list(result["operators"].items())[:SHOWN_PLACES]
        listed = ", ".join(f"{operator} {time:.1f}" for operator, time in operators)
        return f"{1000 * result['seconds']:.0f}", busy, listed

    return _one_row_each(results, ("", "step, ms", "GPU busy", "operators, ms of their own"), cells)


PARTS: dict[str, tuple[str, Callable[[Results], str]]] = {
    "parity": ("Parity in float32", parity_table),
    "curve": ("Loss in bf16 and in float32", curve_table),
    "stage2": ("Stage 2, 640 x 1280, bf16", speed_table),
    "stage3": ("Stage 3, 1024 x 2048, bf16", speed_table),
    "syncs": ("Waits for the GPU, two images a step", sync_table),
    "profile": ("Where a step of Stage 2 spends its time, 640 x 1280, bf16", profile_table),
}


def report(shown: Mapping[str, Results], settings: GpuSettings) -> str:
    """Return the tables under headings, and the machine and versions below them."""
    lines = ["# On a GPU", ""]
    if settings.device == "cpu":
        lines += ["Tried on a CPU with tiny images: these numbers mean nothing.", ""]
    for part, results in shown.items():
        title, table = PARTS[part]
        lines += [f"## {title}", "", table(results), ""]
    versions = {key: value for key, value in describe_machine().items() if key not in ("processor", "cores")}
    listed = ", ".join(f"{key} {value}" for key, value in versions.items())
    return "\n".join([*lines, machine_line(), "", f"Median of {settings.repeats} steps; {listed}."])
