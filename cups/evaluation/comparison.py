"""Two evaluations on the same frames: what one gains over the other, and how sure the frames make it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cups.errors import UserError
from cups.evaluation.results import TITLES, rows_path
from cups.io.markdown import markdown_table, percent
from cups.metrics.bootstrap import DRAWS, LEVEL, METRICS, Difference, paired_differences
from cups.metrics.protocol import VOID_RULES
from cups.metrics.scored_rows import ScoredRows

NOTE = (
    f"Interval: {100 * LEVEL:.0f} % of {DRAWS} draws of frames with replacement, the same for both (paired "
    "bootstrap). Where it holds 0, these frames do not tell the two apart. The matching of pseudo-classes is "
    "that over all frames. The interval knows nothing of other training seeds."
)


def rows_of(results: Path) -> ScoredRows:
    """Read the rows beside results.

    Args:
        results: a folder that holds `results.json`, that file or another by its name, or its path without
            suffix.

    Raises:
        UserError: no rows there, or damaged ones.
    """
    if results.is_dir() and not rows_path(results).is_file():
        return ScoredRows.read(rows_path(results / "results"))
    known = (".rows.npz", ".json", ".csv", ".md")
    end = next((end for end in known if results.name.endswith(end)), "")
    return ScoredRows.read(rows_path(results.with_name(results.name.removesuffix(end))))


def compare(first: Path, second: Path) -> str:
    """Return the comparison of two results as Markdown: a table for each void rule.

    Raises:
        UserError: results without rows, or of other frames, classes or ground truth.
    """
    both = rows_of(first), rows_of(second)
    try:
        found = {rule: paired_differences(*both, rule) for rule in VOID_RULES}
    except UserError as error:
        raise UserError(f"{first}, {second}: {error}") from None
    images = next(iter(found["standard"].values())).images
    parts = [f"- A: {first}\n- B: {second}\n- {images} frames"]
    parts += [f"{rule.capitalize()} void rule:\n\n{comparison_table(found[rule])}" for rule in VOID_RULES]
    return "\n\n".join([*parts, NOTE])


def comparison_table(differences: dict[str, Difference]) -> str:
    """Return measure | A | B | B - A | interval: means, then PQ of each class that either result meets."""
    names = [*METRICS, *(name for name in differences if name not in METRICS)]
    shown = [name for name in names if name in METRICS or differences[name].first == differences[name].first]
    rows = [(TITLES.get(name, f"PQ {name[3:]}"), *_cells(differences[name])) for name in shown]
    return markdown_table(rows, ("", "A", "B", "B - A", f"{100 * LEVEL:.0f} % interval"))


def _cells(one: Difference) -> Sequence[str]:
    if one.gain != one.gain:
        return (percent(one.first), percent(one.second), percent(one.gain), percent(one.gain))
    return (percent(one.first), percent(one.second), f"{100 * one.gain:+.1f}", one.interval())


def sentence(name: str, before: str, one: Difference) -> str:
    """Say what a prediction gains over another, with the interval, and what that means."""
    words = {1: "beats", -1: "loses to", 0: "does not differ beyond the interval from"}[one.sign]
    return (
        f"{name} - {before}: {100 * one.gain:+.1f} PQ ({100 * one.level:.0f} % interval {one.interval()}, "
        f"{one.images} frames): {name} {words} {before}."
    )
