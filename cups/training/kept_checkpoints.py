"""The checkpoints that a run has kept, and the one that it goes on from: the newest that is whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.checkpoint import read_file
from cups.io.durable import sync_folder
from cups.training.processes import is_first_process

log = logging.getLogger(__name__)
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "global_step")
"""What a checkpoint must hold for a run to go on from it; `best.ckpt` of a self-training has less."""


def last_checkpoint(directory: Path) -> Path:
    """Return where a run keeps its newest checkpoint."""
    return directory / "checkpoints" / LAST


def step_checkpoint(directory: Path, step: int) -> Path:
    """Return where a run keeps the checkpoint of a step."""
    return directory / "checkpoints" / f"ups_checkpoint_step={step:06d}.ckpt"


def holds_checkpoints(directory: Path) -> bool:
    """Return whether a run folder has any checkpoint, be it damaged, or a link to one that is gone."""
    return any(_kept(directory))


def _kept(directory: Path) -> Iterator[Path]:
    paths = (directory / "checkpoints").glob("*.ckpt")
    return (path for path in paths if not path.name.startswith("."))


def checkpoint_to_resume(directory: Path, fix: str) -> Path | None:
    """Return the checkpoint that a run goes on from, None where it has none at all.

    That is `last.ckpt`. Where it is damaged or missing, a warning names it and the newest whole checkpoint
    takes its place: `last.ckpt` becomes a link to that.

    Args:
        fix: what to do about checkpoints of which none is whole.

    Raises:
        UserError: there are checkpoints, but none is whole: nothing is started over them.
    """
    if not holds_checkpoints(directory):
        return None
    last = last_checkpoint(directory)
    damage = damage_of(last)
    if damage is None:
        return last
    others = [path for path in _kept(directory) if path.resolve() != last.resolve()]
    for path in sorted(others, key=_step, reverse=True):
        if damage_of(path) is None:
            log.warning("%s: %s; the run goes on from %s, at step %d", last, damage, path.name, _step(path))
            if is_first_process():
                link_last(path)
            return path
    raise UserError(f"{last}: {damage}, and no other checkpoint there is whole; {fix}")


def damage_of(path: Path) -> str | None:
    """Return in a few words why no run can go on from a checkpoint; None where it can."""
    if not path.is_file():
        return "is a link to a file that is gone" if path.is_symlink() else "no such file"
    try:
        content = _open(path)
    except (UserError, TypeError) as error:
        return f"damaged ({str(error).removeprefix(f'{path}: ')})"
    return None if all(key in content for key in NEEDED) else "holds weights alone"


def _open(path: Path) -> dict[str, Any]:
    content = read_file(path, mapped=True)
    if not isinstance(content, dict):
        raise TypeError("no checkpoint")
    return content


def _step(path: Path) -> int:
    """Return the step of a checkpoint, -1 where it cannot be read."""
    try:
        return int(_open(path)["global_step"])
    except (UserError, TypeError, KeyError, ValueError):
        return -1


def link_last(path: Path) -> None:
    """Make `last.ckpt` a link to a checkpoint beside it; at no moment is there none."""
    temporary = path.with_name(".last.link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(path.name)
    temporary.replace(path.with_name(LAST))
    sync_folder(path.parent)


def remove_leftovers(directory: Path) -> None:
    """Remove what a killed run had not written to its end; only who alone writes there may do so."""
    for path in (directory / "checkpoints").glob(".*.ckpt"):
        path.unlink(missing_ok=True)
