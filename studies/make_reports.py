#!/usr/bin/env python3
"""Run the experiments on toy streets that are missing, and write reports/*.md from their result files.

Finished steps are remembered, so a killed run goes on where it was; --render_only runs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from cups.errors import UserError, run_main
from cups.io.files import write_text
from studies.commands import ROOT, Step, recorded, run_steps
from studies.reports import (
    cause_tr_refinement,
    overclustered_spidepth_sweep,
    stage2_spatial_alignment_fix,
    stage3_self_training,
    stage_1_report,
)
from studies.reports.pictures import write_jpeg
from studies.toy_runs import ToyRuns


class Report(Protocol):
    """A module that makes one report."""

    NAME: str
    """File name without suffix, and what --only takes."""

    def steps(self, runs: ToyRuns) -> list[Step]:
        """Return the experiments, in order; those that reports share are equal."""

    def pictures(self, runs: ToyRuns) -> Mapping[str, np.ndarray]:
        """Return the pictures that can be drawn: name -> (H, W, 3) uint8."""

    def render(self, runs: ToyRuns, drawn: Sequence[str]) -> str:
        """Return the Markdown; `drawn` are the names of the pictures in `figures/`."""


REPORTS: tuple[Report, ...] = (
    stage_1_report,
    cause_tr_refinement,
    overclustered_spidepth_sweep,
    stage2_spatial_alignment_fix,
    stage3_self_training,
)


def write_report(report: Report, runs: ToyRuns, folder: Path) -> Path:
    """Write a report and its pictures into `folder`; return the report's path."""
    pictures = report.pictures(runs)
    for name, picture in pictures.items():
        write_jpeg(folder / "figures" / f"{name}.jpg", picture)
    path = folder / f"{report.NAME}.md"
    text = report.render(runs, tuple(pictures)).rstrip() + "\n"
    write_text(path, text)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run and render."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    names = [report.NAME for report in REPORTS]
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "reports", help="folder of the runs")
    parser.add_argument("--output", type=Path, default=ROOT / "reports", help="folder of the reports")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds to run and report")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="reports to make")
    parser.add_argument("--num_workers", type=int, default=2, help="processes of each step")
    parser.add_argument("--render_only", action="store_true", help="run nothing; write what is there")
    args = parser.parse_args(argv)
    runs = ToyRuns(args.runs.resolve(), tuple(dict.fromkeys(args.seeds)), args.num_workers)
    reports = [report for report in REPORTS if report.NAME in args.only]
    if args.render_only and not runs.folder.is_dir():
        raise UserError(f"{runs.folder}: no such folder; leave out --render_only to run the experiments")
    if not args.render_only:
        steps = dict.fromkeys(step for report in reports for step in report.steps(runs))
        if any(recorded(step, runs.records) is None for step in steps):
            runs.note_machine()
        run_steps(list(steps), runs.records, "reports")
    for report in reports:
        print(f"report: {write_report(report, runs, args.output)}")
    return 0


if __name__ == "__main__":
    run_main(main)
