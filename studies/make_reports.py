"""Run the experiments on toy streets that are missing, and write reports/*.md from their result files.

Finished steps are remembered, so a killed run goes on where it was; --render_only runs nothing. Processes
with other --seeds may run at the same time: what they share is made by one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import COUNT, SEED, WORKERS
from cups.errors import UserError, run_main
from pseudo_labels.steps.flags import Settings, flag, parse
from pseudo_labels.steps.stage1 import ROOT
from studies.commands import plan, recorded, run_steps
from studies.reports.names import NAMES
from studies.toy_settings import STEPS


@dataclass(frozen=True)
class ReportSettings(Settings):
    """Reports."""

    runs: Path = flag(ROOT / "runs" / "reports", "folder of the runs")
    output: Path = flag(ROOT / "reports", "folder of the reports")
    seeds: tuple[int, ...] = flag((0, 1, 2), "seeds to run and report", allowed=SEED)
    only: tuple[str, ...] = flag(NAMES, "reports to make", choices=NAMES, metavar="REPORT")
    steps: int = flag(
        STEPS, "training steps of Stage 2; another number needs another folder of `runs`", allowed=COUNT
    )
    num_workers: int = flag(2, "processes of each step", allowed=WORKERS)
    dry_run: bool = flag(False, "print the commands that would run, and stop")
    render_only: bool = flag(False, "run nothing; write what is there")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.render_only and not self.runs.is_dir():
            raise UserError(f"{self.runs}: no such folder; leave out `render_only` to run the experiments")


def main(argv: Sequence[str] | None = None) -> int:
    """Run and render."""
    (settings,) = parse(__doc__, argv, ReportSettings)
    from studies.reports.collection import load, write_report  # after parsing: --help is quick
    from studies.toy_runs import ToyRuns

    seeds = tuple(dict.fromkeys(settings.seeds))
    runs = ToyRuns(settings.runs.resolve(), seeds, settings.num_workers, settings.steps)
    reports = load(name for name in NAMES if name in settings.only)
    runs.check_budget()
    if not settings.render_only:
        runs.check_data()
    steps = list(dict.fromkeys(step for report in reports for step in report.steps(runs)))
    if settings.dry_run:
        print(plan(steps, runs.records))
        return 0
    if not settings.render_only:
        runs.note_budget()
        if any(recorded(step, runs.records) is None for step in steps):
            runs.note_machine()
        run_steps(steps, runs.records, "reports")
    for report in reports:
        print(f"report: {write_report(report, runs, settings.output)}")
    return 0


if __name__ == "__main__":
    run_main(main)
