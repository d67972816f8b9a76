"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def percent(value: float) -> str:
    """Return a share in 0-1 as percent with one decimal, a dash for nan."""
    return "–" if value != value else f"{100 * value:.1f}"  # noqa: RUF001 - the dash is meant


def markdown_table(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
    """Return a Markdown table; the first column is set left, the others right. No final line break."""
    cells = [[_cell(value) for value in row] for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(f"row {row} has {len(row)} cells for {len(columns)} columns")
    table = [list(columns), *cells]
    widths = [max(3, *(len(row[i]) for row in table)) for i in range(len(columns))]
    lines = [
        " | ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    rule = " | ".join("-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths))
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
