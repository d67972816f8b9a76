"""All reports by name, and how one is written."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from cups.io.files import write_text
from pseudo_labels.steps.stage1 import Command
from studies.reports.pictures import write_jpeg
from studies.toy_runs import ToyRuns


class Report(Protocol):
    """A module that makes one report."""

    NAME: str
    """File name without suffix, and what --only takes: the module's own name."""

    def steps(self, runs: ToyRuns) -> list[Command]:
        """Return the experiments, in order; those that reports share are equal."""

    def pictures(self, runs: ToyRuns) -> Mapping[str, np.ndarray]:
        """Return the pictures that can be drawn: name -> (H, W, 3) uint8."""

    def render(self, runs: ToyRuns, drawn: Sequence[str]) -> str:
        """Return the Markdown; `drawn` are the names of the pictures in `figures/`."""


def load(names: Iterable[str]) -> tuple[Report, ...]:
    """Return the reports of these names (`studies.reports.names.NAMES`)."""
    return tuple(cast(Report, importlib.import_module(f"studies.reports.{name}")) for name in names)


def write_report(report: Report, runs: ToyRuns, folder: Path) -> Path:
    """Write a report and its pictures into `folder`; return the report's path."""
    pictures = report.pictures(runs)
    for name, picture in pictures.items():
        write_jpeg(folder / "figures" / f"{name}.jpg", picture)
    path = folder / f"{report.NAME}.md"
    write_text(path, report.render(runs, tuple(pictures)).rstrip() + "\n")
    return path
