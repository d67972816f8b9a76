"""Commands run one after another, each measured and remembered: what demo, checks and reports are made of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cups.errors import UserError
from cups.io.files import read_json
from cups.io.locking import exclusive
from pseudo_labels.steps.stage1 import Command
from studies.decided import differences, settings_of, value_of, weights_of
from studies.measure import StepRecord, config_digests, read_step, run_measured
from studies.toy_settings import FRAMES

RESUMES = "--resume_if_possible"
NEVER_READ = {
    "pseudo_labels/generate_semantic_pseudolabels_cause.py": frozenset({"--seed"}),
    "val.py": frozenset({"--disable_wandb"}),
}
"""Flags that scripts once took without reading them: records with them hold."""
IDLE_FLAGS = frozenset({"--num_workers"})
"""Flags that change no result: other values of them do not undo what is done."""


def toy_streets(data: Path, *flags: str, frames: tuple[int, int] = FRAMES) -> Command:
    """Return the command that renders the toy data set. `frames`: of training and validation."""
    train, val = map(str, frames)
    size = ("--train_frames", train, "--val_frames", val)
    return Command("toy streets", "cups.data.toy_streets", ("--output", str(data), *size, *flags))


def check_streets(data: Path, frames: tuple[int, int], fix: str) -> None:
    """Refuse toy streets of other numbers of frames: the runs on them would not fit new ones.

    Args:
        frames: of training and validation, as they should be.
        fix: what the user can do, in the words of the study; "{} {}" stands for the numbers found.

    Raises:
        UserError: naming the folder and what it holds.
    """
    path = data / "toy_streets.json"
    if not path.is_file():
        return
    size = read_json(path, "remove the folder").get("parameters", {})
    found = size.get("train_frames"), size.get("val_frames")
    if found != frames:
        raise UserError(
            f"{data}: holds {found[0]} training and {found[1]} validation frames, not {frames[0]} and "
            f"{frames[1]}; {fix.format(*found)}"
        )


def record_path(command: Command, folder: Path) -> Path:
    """Return where the record of a command is kept: others put in before or after it do not move it."""
    return folder / f"{re.sub(r'[^a-z0-9]+', '_', command.name.lower()).strip('_')}.json"


def recorded(command: Command, folder: Path) -> StepRecord | None:
    """Return the record of a command that is done with these arguments, settings and weights, else None.

    Another Python, another checkout, another order of flags or more workers do not undo what is done.
    """
    path = record_path(command, folder)
    record = read_step(path) if path.is_file() else None
    if record is None or not _same_words(record, command) or _changes(record, command):
        return None
    if record.settings:  # the text of the file is no matter then
        return record
    return record if record.configs == config_digests(command.arguments) else None


def _same_words(record: StepRecord, command: Command) -> bool:
    start = len(command.line()) - len(command.arguments)
    done = _in_order(record.command[start:], IDLE_FLAGS | NEVER_READ.get(command.script, frozenset()))
    return done == _in_order(command.arguments, IDLE_FLAGS)


def _changes(record: StepRecord, command: Command) -> list[str]:
    """Return in words what decides the command and has changed since its record was written."""
    settings = settings_of(command) if record.settings else {}
    weights = weights_of(command) if record.weights else {}
    return differences(record.settings, record.weights, settings, weights)


def _refuse_stale_run(command: Command, folder: Path) -> None:
    """Refuse to start a training again whose settings or start have changed since it was done.

    It would find its run at the last step, and what it learnt before would pass for new.

    Raises:
        UserError: naming the run, what has changed, and the fix.
    """
    path, words = record_path(command, folder), command.arguments
    where = [value_of(words, flag) for flag in ("--log_path", "--run_name")]
    if RESUMES not in words or None in where or not path.is_file():
        return
    run, record = Path(*filter(None, where)), read_step(path)
    changed = _changes(record, command) if _same_words(record, command) else []
    if changed and (run / "checkpoints").is_dir():
        raise UserError(
            f"{run}: trained before a change ({'; '.join(changed)}); remove it to train anew, or choose "
            "another folder for the whole"
        )


def _in_order(arguments: Sequence[str], without: frozenset[str]) -> list[list[str]]:
    """Return each flag with its values, sorted by name; of a flag that is given twice the order is kept."""
    groups: list[list[str]] = [[]]
    for word in arguments:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    # More words than the flag's own value are pairs of keys.
    kept = (group for group in groups if len(group) > 2 or not without.intersection(group[:1]))
    return sorted(kept, key=lambda group: group[:1])


def run_steps(commands: Sequence[Command], folder: Path, title: str = "demo") -> list[StepRecord]:
    """Run the commands whose record is not in `folder` yet; each is recorded as soon as it is done.

    Several processes may run lists that share commands: each command is run by one of them.
    """
    records = []
    for number, command in enumerate(commands, start=1):
        head = f"[{title} {number}/{len(commands)}] {command.name}"
        # Two processes with other seeds share some steps: the second waits, and then finds them done.
        with exclusive(record_path(command, folder)):
            record = recorded(command, folder)
            if record is not None:
                print(f"{head}: done before", flush=True)
            else:
                print(head, flush=True)
                _refuse_stale_run(command, folder)
                settings, weights = settings_of(command), weights_of(command)
                record = replace(
                    run_measured(command.line(), command.name), settings=settings, weights=weights
                )
                record.write_json(record_path(command, folder))
        records.append(record)
    return records


def plan(commands: Sequence[Command], folder: Path) -> str:
    """Return what `run_steps` would run, a line each: a comment for what is done, else the command line."""
    lines = []
    for command in commands:
        done = recorded(command, folder) is not None
        lines.append(f"# {command.name}{': done before' if done else ''}")
        if not done:
            lines.append(shlex.join(command.line()))
    return "\n".join(lines)
