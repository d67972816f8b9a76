"""What a scored folder leaves behind: where its numbers come from, and the result files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.evaluation.results import Result, write_results
from cups.io.provenance import code_version, describe_input
from cups.metrics.scored_rows import ScoredRows
from pseudo_labels.inputs.cluster_names import clusters_in, names_of
from pseudo_labels.settings.scoring import ScoredImages


def require_folder(folder: Path, settings: str) -> Path:
    """Return `folder`.

    settings: those in backquotes that name it.

    Raises:
        UserError: it does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check {settings}")
    return folder


def texts_of(*settings: Any) -> dict[str, str]:
    """Return the fields of settings as text by name."""
    values = {field.name: getattr(one, field.name) for one in settings for field in fields(one)}
    return {name: str(list(value) if isinstance(value, tuple) else value) for name, value in values.items()}


def record(scored: ScoredImages, settings: Any, inputs: Sequence[Path], **more: Any) -> dict[str, Any]:
    """Return the fields of `Result` that say how a number came about.

    Args:
        inputs: folders that were scored.
        more: further entries of the configuration.
    """
    return {
        "code_version": code_version(),
        "config": texts_of(scored, settings) | more,
        "provenance": {folder.name: describe_input(folder) for folder in inputs},
    }


def save_names(path: Path | None, result: Result, folder: Path) -> str:
    """Write the classes that a matching gives to clusters as their names; returns a line that says so.

    Args:
        path: the file; None writes nothing.
        result: of an evaluation of 19 classes; its protocol is told as the source of the names.
        folder: of the clusters.
    """
    if path is None:
        return ""
    digest = clusters_in(folder, len(result.assignment))
    names_of(result.assignment, digest, f"ground truth: {result.protocol}").write(path)
    return f"\nnames of the clusters, from ground truth: {path}"


def publish(
    images: ScoredImages, name: str, results: Sequence[Result], report: str, rows: ScoredRows | None = None
) -> str:
    """Write the results beside the labels (or at `results`); returns the report and where it is.

    rows: of panoptic results, see `cups.evaluation.results.write_results`.
    """
    stem = images.results or images.label_root / "evaluation" / f"{name}_{images.split}"
    write_results(stem, results, report, rows)
    return f"{report}\nresults: {stem}.json, .csv, .md"
