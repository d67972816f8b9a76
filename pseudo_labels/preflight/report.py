"""The preflight of a run: every step looked at before the first one starts, all problems at once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cups.errors import UserError
from pseudo_labels.networks.devices import pick_device
from pseudo_labels.preflight.checks import CHECKS
from pseudo_labels.preflight.cost import GIB, network_seconds
from pseudo_labels.preflight.needs import Job, Need
from pseudo_labels.steps.flags import parse
from pseudo_labels.steps.frames import FrameSource
from pseudo_labels.steps.stage1 import Command


def examine(commands: Sequence[Command]) -> list[Need]:
    """Return what each command needs; the files of earlier ones count as there.

    Raises:
        UserError: a command line that its step refuses, or no images.
    """
    planned: dict[Path, Any] = {}
    needs: list[Need] = []
    for command in commands:
        check = CHECKS[Path(command.script).stem]
        settings: Any
        source, run, settings = parse(None, command.arguments, FrameSource, check.run, check.settings)
        need, written = check.look(Job(source, run, settings, planned))
        need.name = command.name
        needs.append(need)
        planned.update(dict.fromkeys(written, settings))
    return needs


def preflight(commands: Sequence[Command], root: Path, timed: bool = True) -> str:
    """Look at all commands of a run; returns a table of what they will take.

    Args:
        root: the folder that is written into.
        timed: whether they run on this machine, whose speed is then measured.

    Raises:
        UserError: all that is missing, one line each, the room on the disk included.
    """
    needs = examine(commands)
    problems = list(dict.fromkeys(line for need in needs for line in need.problems))
    needed, free = sum(need.size for need in needs), free_bytes(root)
    if needed > free:
        problems.append(f"{root}: {amount(free)} free, {amount(needed)} needed; give another `output_root`")
    if problems:
        raise UserError("\n".join(problems))
    seconds = {need.name: network_seconds(need.flops, need.device, need.precision) for need in needs if timed}
    return table(needs, seconds, free)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that a folder is on, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def amount(count: float) -> str:
    """Return a number of bytes in GB of 2^30."""
    if not count:
        return ""
    return f"{count / GIB:.1f} GB" if count >= 0.05 * GIB else f"{max(1, round(count / 2**20))} MB"


def duration(seconds: float) -> str:
    """Return about how long, in one unit."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"~{seconds / length:.0f} {unit}"
    return f"~{seconds:.0f} s" if seconds >= 1 else ""


def table(needs: Sequence[Need], seconds: Mapping[str, float], free: int) -> str:
    """Return the steps as lines: name, what there is to do, disk, and time of the networks."""
    rows = [("step", "to do", "disk", f"networks ({pick_device('auto')})" if seconds else "")]
    rows += [(n.name, n.work, amount(n.size), duration(seconds.get(n.name, 0))) for n in needs]
    total = amount(sum(need.size for need in needs)) or "nothing"
    rows.append(("all", "", f"{total} of {amount(free)} free", duration(sum(seconds.values()))))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
