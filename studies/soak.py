"""Kill all trainings and steps at random moments, resume, and compare with an undisturbed run on toy streets.

Each time a command gets SIGKILL or SIGTERM at a random moment (once, sometimes twice), is given again, and
must leave the files of the undisturbed run: the same bytes, of checkpoints the same tensors. No process may
be left behind. Prints a table; exit code 1 at any difference. The undisturbed run is kept for the next time.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import SEED
from cups.errors import UserError, run_main
from pseudo_labels.steps.flags import Settings, add_flags, flag, make_parser, take
from pseudo_labels.steps.stage1 import ROOT


@dataclass(frozen=True)
class SoakSettings(Settings):
    """Soak."""

    output: Path = flag(ROOT / "runs" / "soak", "folder of the runs")
    fresh: bool = flag(False, "make the undisturbed run anew, as after a change of the code")
    seed: int = flag(0, "seed of the moments and signals", allowed=SEED)
    only: str | None = flag(None, "only commands whose name holds this")


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, resume, compare."""
    parser = make_parser(__doc__)
    parser.add_argument("times", nargs="?", type=int, default=100, help="kills in all (default: 100)")
    add_flags(parser, SoakSettings)
    values = parser.parse_args(argv)
    settings, times = take(SoakSettings, values), int(values.times)
    if times < 1:
        raise UserError(f"TIMES {times}: must be at least 1")
    from studies.soak_runs import disturb, table, undisturbed  # after parsing: --help is quick
    from studies.soak_steps import soak_steps

    output = settings.output.resolve()
    work, reference, log = output / "work", output / "reference", output / "log.txt"
    if settings.fresh:
        shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    commands = soak_steps(work)
    wanted = [number for number, one in enumerate(commands) if (settings.only or "") in one.name]
    if not wanted:
        raise UserError(
            f"`only` {settings.only}: none of {', '.join(one.name for one in commands)} is called so"
        )
    cases = undisturbed(commands[: wanted[-1] + 1], output)
    chosen = [cases[number] for number in wanted]
    draws = random.Random(settings.seed)
    while sum(case.total for case in chosen) < times:
        fewest = min(case.total + case.kills.get("too late", 0) for case in chosen)
        case = draws.choice([c for c in chosen if c.total + c.kills.get("too late", 0) == fewest])
        disturb(case, cases, work, reference, log, draws)
        told = "; ".join(case.problems) or "as undisturbed"
        print(f"{sum(c.total for c in chosen)}/{times} {case.command.name}: {told}", flush=True)
    print(table(chosen))
    return int(any(case.problems for case in chosen))


if __name__ == "__main__":
    run_main(main)
