"""Commands run one after another, each measured and remembered: what demo, checks and reports are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pseudo_labels.steps.stage1 import Command
from studies.measure import StepRecord, config_digests, read_step, run_measured

NEVER_READ = {
    "pseudo_labels/generate_semantic_pseudolabels_cause.py": frozenset({"--seed"}),
    "val.py": frozenset({"--disable_wandb"}),
}
"""Flags that scripts once took without reading them: records with them hold."""


def toy_streets(data: Path, *flags: str) -> Command:
    """Return the command that renders the toy data set."""
    return Command("toy streets", "cups.data.toy_streets", ("--output", str(data), *flags))


def record_path(command: Command, folder: Path) -> Path:
    """Return where the record of a command is kept: others put in before or after it do not move it."""
    return folder / f"{re.sub(r'[^a-z0-9]+', '_', command.name.lower()).strip('_')}.json"


def recorded(command: Command, folder: Path) -> StepRecord | None:
    """Return the record of a command that is done with these arguments and configuration files, else None.

    Another Python, another checkout or another order of flags does not undo what is done.
    """
    path = record_path(command, folder)
    record = read_step(path) if path.is_file() else None
    if record is None:
        return None
    start = len(command.line()) - len(command.arguments)
    done = _in_order(record.command[start:], NEVER_READ.get(command.script, frozenset()))
    if done != _in_order(command.arguments):
        return None
    return record if record.configs == config_digests(command.arguments) else None


def _in_order(arguments: Sequence[str], without: frozenset[str] = frozenset()) -> list[list[str]]:
    """Return each flag with its values, sorted by name; of a flag that is given twice the order is kept."""
    groups: list[list[str]] = [[]]
    for word in arguments:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    kept = (group for group in groups if not without.intersection(group[:1]))
    return sorted(kept, key=lambda group: group[:1])


def run_steps(commands: Sequence[Command], folder: Path, title: str = "demo") -> list[StepRecord]:
    """Run the commands whose record is not in `folder` yet; each is recorded as soon as it is done."""
    records = []
    for number, command in enumerate(commands, start=1):
        head = f"[{title} {number}/{len(commands)}] {command.name}"
        record = recorded(command, folder)
        if record is not None:
            print(f"{head}: done before", flush=True)
        else:
            print(head, flush=True)
            record = run_measured(command.line(), command.name)
            record.write_json(record_path(command, folder))
        records.append(record)
    return records
