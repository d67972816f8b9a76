"""Commands run undisturbed, then killed and given again, and what differs after that."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.children import start_child
from cups.io.files import read_json, write_json
from cups.io.markdown import markdown_table
from pseudo_labels.steps.stage1 import Command

LOGS = {"csv", "tensorboard", "submitit"}
"""Folders of what a run logs: times, and steps that a killed run did twice."""
RESUMED = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "hyper_parameters")
"""What of a checkpoint must be equal; the rest is Lightning's counting of epochs and batches."""
LEFT_SECONDS = 20.0


@dataclass
class Case:
    """A command, the files that it wrote undisturbed, and what became of it under kills.

    Attributes:
        before: number of commands that come before it.
        files: relative to the folder of the run.
        seconds: of the undisturbed run.
        kills: times that a kill met it, by the name of the signal; "too late" where it was through.
        problems: in words.
    """

    command: Command
    before: int
    files: set[Path]
    seconds: float
    kills: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of kills that met it."""
        return sum(count for name, count in self.kills.items() if name != "too late")


def files_of(folder: Path) -> set[Path]:
    """Return the files that count, relative to the folder."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in found if not any(part.startswith(".") or part in LOGS for part in path.parts)}


def undisturbed(commands: Sequence[Command], output: Path) -> list[Case]:
    """Run all commands in `output/work` and move that to `output/reference`, or find that done.

    Raises:
        UserError: a command fails.
    """
    work, record = output / "work", output / "undisturbed.json"
    reference = output / "reference"
    done = read_json(record, "add `fresh`")["cases"] if record.is_file() else []
    whole = reference.is_dir() and len(done) >= len(commands)
    if not whole and reference.is_dir():  # of fewer commands: it goes on there
        shutil.rmtree(work, ignore_errors=True)
        reference.rename(work)
    if not work.is_dir() and not whole:
        done = []
    cases = [
        Case(command, number, {Path(path) for path in case["files"]}, case["seconds"])
        for number, (command, case) in enumerate(zip(commands, done, strict=False))
    ]
    known = {path for case in cases for path in case.files}
    for number, command in enumerate(commands[len(cases) :], start=len(cases)):
        started = time.monotonic()
        if _start(command, output / "log.txt").wait():
            raise UserError(f"{command.name}: failed undisturbed; see {output / 'log.txt'}")
        now = files_of(work)
        cases.append(Case(command, number, now - known, time.monotonic() - started))
        known = now
        kept = [{"files": sorted(map(str, case.files)), "seconds": case.seconds} for case in cases]
        write_json(record, {"cases": kept})
        print(f"undisturbed: {command.name}, {cases[-1].seconds:.0f} s", flush=True)
    if not whole:
        work.rename(reference)
    return cases


def _start(command: Command, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        # A session of its own: what is left behind is found by it.
        return start_child(command.line(), stdout=file, stderr=file, start_new_session=True)


def disturb(
    case: Case, cases: Sequence[Case], work: Path, reference: Path, log: Path, draws: random.Random
) -> None:
    """Kill a command at a random moment, give it again until it is through, and compare what it wrote."""
    shutil.rmtree(work, ignore_errors=True)
    for earlier in cases[: case.before]:
        for path in earlier.files:
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(reference / path, work / path)
    for _ in range(draws.choice((1, 1, 2))):
        number = draws.choice((signal.SIGKILL, signal.SIGTERM))
        moment = draws.uniform(0.2, 1.0) * case.seconds
        process = _start(case.command, log)
        try:
            process.wait(moment)
            met = "too late"
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            process.wait()
            met = number.name
        case.kills[met] = case.kills.get(met, 0) + 1
        if _left_behind(process.pid):
            case.problems.append(f"processes left after {number.name} at {moment:.1f} s")
    code = _start(case.command, log).wait()
    if code:
        case.problems.append(f"exit code {code} when given again after {number.name} at {moment:.1f} s")
        return
    case.problems += [
        f"{difference} ({number.name} at {moment:.1f} s)"
        for difference in differences(case.files, work, reference)
    ]


def _left_behind(session: int) -> bool:
    """Return whether processes of a session live on, after some time to end."""
    end = time.monotonic() + LEFT_SECONDS
    while _alive(session):
        if time.monotonic() > end:
            return True
        time.sleep(0.1)
    return False


def _alive(session: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == str(session) and fields[0] != "Z":
            return True
    return False


def differences(files: set[Path], work: Path, reference: Path) -> list[str]:
    """Return which files of a command are missing, or differ from those of the undisturbed run."""
    return [
        f"{path}: {'missing' if not (work / path).is_file() else 'differs'}"
        for path in sorted(files)
        if not (work / path).is_file() or not same_file(work / path, reference / path)
    ]


def same_file(one: Path, other: Path) -> bool:
    """Return whether two files hold the same: bytes, or tensors."""
    if one.read_bytes() == other.read_bytes():
        return True
    if one.suffix == ".json":
        return same(json.loads(one.read_text()), json.loads(other.read_text()))
    if one.suffix not in (".ckpt", ".pth", ".pt"):
        return False
    import torch

    first, second = (torch.load(path, map_location="cpu", weights_only=True) for path in (one, other))
    if one.suffix == ".ckpt":
        first, second = ({key: held.get(key) for key in RESUMED} for held in (first, second))
    return same(first, second)


def same(one: Any, other: Any) -> bool:
    """Return whether plain containers of tensors are equal, whatever version of the code wrote them."""
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict):
        alike = isinstance(other, dict) and one.keys() == other.keys()
        return alike and all(same(one[key], other[key]) for key in one.keys() - {"code_version"})
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def table(cases: Sequence[Case]) -> str:
    """Return a line for each command: how often it was killed by what, and what was wrong after."""
    rows = [
        (
            case.command.name,
            *(str(case.kills.get(name, 0)) for name in ("SIGKILL", "SIGTERM", "too late")),
            "; ".join(case.problems) or "none",
        )
        for case in cases
    ]
    return markdown_table(rows, ("command", "SIGKILL", "SIGTERM", "was through", "differences"))
