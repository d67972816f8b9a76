"""Results that say what they are (JSON, CSV, Markdown)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import UserError
from cups.io.files import check_fields, read_json, write_csv, write_json, write_text
from cups.io.markdown import markdown_table, percent
from cups.io.provenance import ground_truth_answer
from cups.metrics.protocol import Protocol, VoidRule
from cups.metrics.scored_rows import ScoredRows
from cups.taxonomy import VOID, ClassSet

MAIN_METRICS = ("pq", "pq_things", "pq_stuff", "miou")
ALL_METRICS = ("pq", "sq", "rq", "pq_things", "pq_stuff", "miou", "accuracy")
VIDEO_METRICS = ("stq", "aq", "stq_sq", "vpq", "vpq_things", "vpq_stuff")
TITLES = {
    "pq": "PQ", "sq": "SQ", "rq": "RQ",
    "pq_things": "PQ things", "sq_things": "SQ things", "rq_things": "RQ things",
    "pq_stuff": "PQ stuff", "sq_stuff": "SQ stuff", "rq_stuff": "RQ stuff",
    "miou": "mIoU", "accuracy": "Accuracy",
    "stq": "STQ", "aq": "AQ", "stq_sq": "SQ of STQ",
    "vpq": "VPQ", "vpq_things": "VPQ things", "vpq_stuff": "VPQ stuff",
}  # fmt: skip
"""Printed names of the metrics; all are shares in 0-1, printed in percent."""

_CLASS_COLUMNS = {"pq": "PQ", "sq": "SQ", "rq": "RQ", "iou": "IoU"}


@dataclass(frozen=True)
class Result:
    """One evaluation.

    Attributes:
        name: what was evaluated.
        metrics: scalars; shares are in 0-1.
        protocol: the line of `cups.metrics.protocol.Protocol` that says what the numbers mean.
        void_rule: "standard" or "upstream", see `cups.metrics.protocol.VOID_RULES`.
        assignment: class id of each pseudo-class, 255 for none.
        per_class: class name -> {"kind": "thing" or "stuff", "pq", "sq", "rq", "iou": 0-1 or nan}.
        seeds: random seeds that the result depends on.
        code_version: see `cups.io.provenance.code_version`.
        config: the resolved configuration.
        provenance: where labels and weights came from.
        checkpoint: {"path", "sha256"} of the evaluated network.
    """

    name: str
    metrics: Mapping[str, float]
    protocol: str
    void_rule: str = "standard"
    assignment: Sequence[int] = ()
    per_class: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    code_version: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Mapping[str, str] = field(default_factory=dict)


def results_from_scores(
    name: str,
    scores: Mapping[VoidRule, Mapping[str, Any]],
    classes: ClassSet,
    protocol: Protocol,
    **rest: Any,
) -> list[Result]:
    """Make one Result per void rule of `PanopticQualitySemanticMatching.compute_all()`.

    Args:
        name: what was evaluated.
        scores: per rule tensors or arrays; scalars become metrics, `*_per_class` of length C the class table.
        classes: the C classes.
        protocol: what was evaluated how; its own void rule is replaced by that of the scores.
        rest: further fields of `Result`.
    """
    results = []
    for rule, values in scores.items():
        arrays = {key: np.asarray(value) for key, value in values.items()}
        per_class = {
            class_name: {"kind": "thing" if index in classes.things else "stuff"}
            | {key: float(arrays[f"{key}_per_class"][index]) for key in _CLASS_COLUMNS}
            for index, class_name in enumerate(classes.names)
        }
        metrics = {key: float(value) for key, value in arrays.items() if value.ndim == 0}
        line = str(replace(protocol, void_rule=rule))
        # The metric's "none" is above all clusters, which may be more than 255.
        assignment = np.minimum(arrays["assignment"], VOID).tolist()
        results.append(Result(name, metrics, line, rule, assignment, per_class=per_class, **rest))
    return results


def rows_path(stem: Path) -> Path:
    """Return where the rows of results stand, beside `{stem}.json`."""
    return Path(f"{stem}.rows.npz")


def write_results(
    stem: Path, results: Sequence[Result], report: str | None = None, rows: ScoredRows | None = None
) -> None:
    """Write `{stem}.json` (everything), `.csv` (a row per value) and `.md` (tables), each atomically.

    Args:
        report: the content of `.md`, if it is not to be `results_report`.
        rows: what panoptic results were made of: `{stem}.rows.npz`, for `cups.evaluation.comparison`. None
            removes those of earlier results.
    """
    if rows is None:
        rows_path(stem).unlink(missing_ok=True)
    else:
        rows.write(rows_path(stem))
    write_json(Path(f"{stem}.json"), {"results": [asdict(result) for result in results]})
    columns = ("name", "void_rule", "class", "metric", "value")
    write_csv(Path(f"{stem}.csv"), columns, (row for result in results for row in _rows(result)))
    write_text(Path(f"{stem}.md"), (report or results_report(results)) + "\n")


def _rows(result: Result) -> Iterator[tuple[Any, ...]]:
    yield from ((result.name, result.void_rule, "", *item) for item in result.metrics.items())
    for name, values in result.per_class.items():
        numbers = ((key, value) for key, value in values.items() if key != "kind")
        yield from ((result.name, result.void_rule, name, *item) for item in numbers)


def read_results(path: Path) -> list[Result]:
    """Read the JSON of `write_results`; null metrics become nan.

    Raises:
        UserError: missing file, or one that holds no results.
    """
    contents = read_json(path, "evaluate again").get("results")
    if not isinstance(contents, list):
        raise UserError(f"{path}: holds no results; evaluate again")
    results = []
    for content in contents:
        check_fields(content, Result, path, "evaluate again")
        content["metrics"] = {key: _number(value) for key, value in content["metrics"].items()}
        for values in content.get("per_class", {}).values():
            values.update({key: _number(value) for key, value in values.items() if key != "kind"})
        results.append(Result(**content))
    return results


def results_report(results: Sequence[Result]) -> str:
    """Return the Markdown of one evaluation: averages under each rule, classes under the first, origin."""
    shown = [result for result in results if "pq" in result.metrics] + without_repeats(
        [result for result in results if "pq" not in result.metrics]
    )
    video = VIDEO_METRICS if any("stq" in result.metrics for result in shown) else ()
    parts = (results_table(shown, (*ALL_METRICS, *video)), class_table(results[0]), origin(results[0]))
    return "\n\n".join(part for part in parts if part)


def without_repeats(results: Sequence[Result]) -> list[Result]:
    """Leave out the further void rules of a result whose metrics they do not change: it holds no void."""
    first: dict[str, Result] = {}
    for result in results:
        first.setdefault(result.name, result)
    return [r for r in results if r is first[r.name] or r.metrics != first[r.name].metrics]


def origin(result: Result) -> str:
    """Return Markdown lines on what made a result: checkpoint, ground truth in training, code version."""
    lines = []
    if result.checkpoint:
        lines.append(f"- Checkpoint {result.checkpoint['path']}, sha256 {result.checkpoint['sha256']}.")
    if "uses_ground_truth" in result.provenance:
        fact = ground_truth_answer(result.provenance["uses_ground_truth"])
        lines.append(f"- Ground truth used to make it: {fact}.")
    if result.code_version:
        lines.append(f"- Code version {result.code_version}.")
    return "\n".join(lines)


def format_metrics(metrics: Mapping[str, float], keys: Iterable[str] = MAIN_METRICS) -> str:
    """Return one line, "PQ 27.8, PQ things 17.7, ...", of those `keys` that `metrics` has."""
    return ", ".join(f"{TITLES.get(key, key)} {percent(metrics[key])}" for key in keys if key in metrics)


def results_table(results: Sequence[Result], keys: Sequence[str] = MAIN_METRICS) -> str:
    """Return a Markdown table of results, one a row, and under it the protocols they were made under."""
    rows = [
        (result.name, result.void_rule, *(percent(result.metrics.get(key, float("nan"))) for key in keys))
        for result in results
    ]
    table = markdown_table(rows, ("", "void rule", *(TITLES.get(key, key) for key in keys)))
    protocols = dict.fromkeys(result.protocol for result in results)
    return table + "\n\n" + "\n".join(f"- {protocol}." for protocol in protocols)


def class_table(result: Result) -> str:
    """Return the Markdown table class | kind | PQ | SQ | RQ | IoU of those columns that the result has."""
    keys = [key for key in _CLASS_COLUMNS if any(key in values for values in result.per_class.values())]
    rows = [
        (name, values["kind"], *(percent(float(values.get(key, float("nan")))) for key in keys))
        for name, values in result.per_class.items()
    ]
    return markdown_table(rows, ("class", "kind", *(_CLASS_COLUMNS[key] for key in keys)))


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
