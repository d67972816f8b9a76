"""The table of a checkpoint on several data sets, beside published numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cups.evaluation.results import Result, origin
from cups.io.files import write_csv, write_json, write_text
from cups.io.markdown import markdown_table, percent
from cups.metrics.protocol import VOID_RULES
from cups.set_files import Published, SetFile

METRICS = ("pq", "pq_things", "pq_stuff", "sq", "rq", "miou", "accuracy")
SHOWN = (("PQ", "pq"), ("things", "pq_things"), ("stuff", "pq_stuff"), ("mIoU", "miou"))
NOTE = (
    "PQ, things, stuff and mIoU are under the standard void rule (Kirillov et al., CVPR 2019): a pixel "
    'without a class is an error. "CUPS\'s rule" is PQ under the upstream rule, where it is free: the '
    "published numbers beside it are under that rule, with 27 pseudo-classes and a network trained on "
    "Cityscapes. Both match pseudo-classes to classes on the scored frames."
)


@dataclass(frozen=True)
class ScoredSet:
    """A data set and what a network reached on it.

    Attributes:
        described: the data set.
        protocol: one line that says what the numbers mean.
        frames: how many were scored.
        expected: how many the split has, None where nobody said.
        results: of `cups.builders.scoring`, the panoptic ones among them.
        fault: why it was not scored; empty where it was.
    """

    described: SetFile
    protocol: str
    frames: int
    expected: int | None
    results: tuple[Result, ...]
    fault: str = ""

    @property
    def complete(self) -> bool:
        """Whether all frames of the split were there, as far as anybody knows."""
        return self.expected is None or self.frames >= self.expected

    @property
    def counted(self) -> str:
        """Frames in words."""
        return str(self.frames) if self.complete else f"{self.frames} of {self.expected}"

    def metric(self, name: str, rule: str) -> float:
        """Return a metric of the panoptic output under a void rule; nan where there is none."""
        for result in self.results:
            if result.void_rule == rule and "pq" in result.metrics:
                return result.metrics.get(name, float("nan"))
        return float("nan")


def sets_report(rows: Sequence[ScoredSet]) -> str:
    """Return the Markdown: the table, what the numbers mean, protocols, sources, what was left out."""
    methods = list(dict.fromkeys(one.method for row in rows for one in row.described.published))
    columns = ("data set", "frames", *(title for title, _ in SHOWN), "CUPS's rule", *methods)
    table = markdown_table([_cells(row, methods) for row in rows], columns)
    notes = [f"- {row.protocol}." for row in rows if row.protocol]
    notes += [f"- {line}" for line in dict.fromkeys(_sources(rows))]
    if fewer := [
        f"{row.described.title} ({row.counted})" for row in rows if row.results and not row.complete
    ]:
        notes.append(
            f"- {', '.join(fewer)}: fewer frames were there than the split has; published numbers are of all."
        )
    notes += [f"- {row.described.title} was not scored: {row.fault}." for row in rows if row.fault]
    first = next((row.results[0] for row in rows if row.results), None)
    parts = [table, NOTE, "\n".join(notes), origin(first) if first else ""]
    return "\n\n".join(part for part in parts if part)


def _cells(row: ScoredSet, methods: Sequence[str]) -> list[str]:
    own = [percent(row.metric(key, VOID_RULES[0])) for _, key in SHOWN]
    told = {one.method: f"{one.pq:.1f}" for one in row.described.published}
    return [
        row.described.title,
        row.counted,
        *own,
        percent(row.metric("pq", VOID_RULES[1])),
        *(told.get(method, percent(float("nan"))) for method in methods),
    ]


def _sources(rows: Sequence[ScoredSet]) -> Iterator[str]:
    for row in rows:
        for one in row.described.published:
            yield f"{one.method}: {one.source}."


def write_sets(stem: Path, rows: Sequence[ScoredSet]) -> None:
    """Write `{stem}.md`, `.json` (everything) and `.csv` (a line per number), each atomically."""
    write_json(Path(f"{stem}.json"), {"data_sets": [_content(row) for row in rows]})
    columns = ("data set", "source", "void_rule", "metric", "value", "frames", "expected")
    write_csv(Path(f"{stem}.csv"), columns, (line for row in rows for line in _lines(row)))
    write_text(Path(f"{stem}.md"), sets_report(rows) + "\n")


def _content(row: ScoredSet) -> dict[str, Any]:
    first = row.results[0] if row.results else None
    return {
        "name": row.described.name,
        "title": row.described.title,
        "protocol": row.protocol,
        "frames": row.frames,
        "expected_frames": row.expected,
        "fault": row.fault,
        "metrics": {rule: {key: row.metric(key, rule) for key in METRICS} for rule in VOID_RULES},
        "published": [_published(one) for one in row.described.published],
        "checkpoint": dict(first.checkpoint) if first else {},
        "provenance": dict(first.provenance) if first else {},
        "code_version": first.code_version if first else "",
    }


def _published(one: Published) -> dict[str, Any]:
    return {"method": one.method, "pq": one.pq / 100, "void_rule": VOID_RULES[1], "source": one.source}


def _lines(row: ScoredSet) -> Iterator[tuple[Any, ...]]:
    counted = (row.frames, row.expected)
    for rule in VOID_RULES if row.results else ():
        for key in METRICS:
            value = row.metric(key, rule)
            yield (
                row.described.name,
                "this checkpoint",
                rule,
                key,
                None if value != value else value,
                *counted,
            )
    for one in row.described.published:
        yield row.described.name, one.method, VOID_RULES[1], "pq", one.pq / 100, None, None
