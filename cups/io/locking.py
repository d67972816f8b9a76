"""Locks between the processes, perhaps on several machines, that work on one folder."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from cups.errors import UserError

log = logging.getLogger(__name__)
WRITER = "writer"
"""The hidden file of a folder that its writer holds, and in which it says who it is."""
_held: dict[Path, IO[str]] = {}


def _release_copies() -> None:
    """Close a forked child's copies of the locks: the child does not write, and may outlive who does."""
    for file in _held.values():
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_release_copies)


@contextmanager
def exclusive(path: Path) -> Iterator[IO[str]]:
    """Let one process at a time read, change and write `path`; the others wait.

    The lock is a hidden file beside `path`; it ends with the process, even a killed one. File systems
    without locks (some cluster mounts) give a warning and no protection: writes are still atomic. Yields the
    lock file, for a note that outlives the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process to finish %s", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s: no file locks here (%s)", path.parent, error)
        yield file


@contextmanager
def made_once(path: Path, run_id: str | None, keep: bool) -> Iterator[bool]:
    """Lock `path` and yield whether it has to be made: the first shard of a run does, the others wait for it.

    Args:
        run_id: what the shards of one run have in common; None: there are none to share with.
        keep: whether a file of an earlier run will do.
    """
    with exclusive(path) as note:
        note.seek(0)
        made_here = run_id is not None and note.read() == run_id
        needed = not (path.is_file() and (keep or made_here))
        yield needed
        if needed:
            note.truncate(0)
            note.write(run_id or "")


@contextmanager
def one_writer(folder: Path, fix: str, share: str | None = None, beside: bool = False) -> Iterator[None]:
    """Be the only writer of a folder, to the end of the block or of the process, even a killed one.

    Within the block, the same process may ask again. As with `exclusive`, file systems without locks give a
    warning.

    Args:
        fix: what a second writer can do instead of waiting, for the error.
        share: what writers must have in common to write at the same time (shards); None: nobody else may.
        beside: hold a hidden file beside the folder, for one that may be removed meanwhile.

    Raises:
        UserError: another process writes there; names its host, process and start.
    """
    place = (
        folder.absolute().parent / f".{folder.name}.{WRITER}" if beside else folder.absolute() / f".{WRITER}"
    )
    if place in _held:
        yield
        return
    # The guard keeps a second process from reading who holds the folder while that is written.
    guard = place.with_name(place.name.lstrip("."))
    with exclusive(guard):
        _held[place] = _taken(place, folder, fix, share)
    try:
        yield
    finally:
        file = _held.pop(place, None)
        if file is not None:
            with exclusive(guard), file:
                _write(file, [note for note in _holders(file) if note.get("pid") != os.getpid()])


def _taken(place: Path, folder: Path, fix: str, share: str | None) -> IO[str]:
    """Return the file at `place`, open and locked, with a note of this process."""
    file = place.open("a+")
    holders: list[dict[str, Any]] = []
    try:
        alone = _lock(file, fcntl.LOCK_EX, folder)
        if not alone:
            holders = _holders(file)
            fits = share is not None and all(holder.get("share") == share for holder in holders)
            if not fits or not _lock(file, fcntl.LOCK_SH, folder):
                raise UserError(f"{folder}: {_told(holders)}; wait for it, or {fix}")
        note = {"host": socket.gethostname(), "pid": os.getpid(), "since": _now(), "share": share}
        _write(file, [note] if alone else [*holders, note])
        if alone and share is not None:
            _lock(file, fcntl.LOCK_SH, folder)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: IO[str], kind: int, folder: Path) -> bool:
    """Lock a file at once or not at all; returns whether another process may hold nothing against it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.warning("%s: no file locks here (%s); let no second run write there", folder, error)
    return True


def _write(file: IO[str], notes: list[dict[str, Any]]) -> None:
    file.truncate(0)
    file.writelines(json.dumps(note) + "\n" for note in notes)
    file.flush()


def _holders(file: IO[str]) -> list[dict[str, Any]]:
    """Return the notes of the processes that took the lock and may hold it."""
    file.seek(0)
    notes = []
    for line in file:
        try:
            note = json.loads(line)
        except ValueError:  # cut short by a full disk
            continue
        if isinstance(note, dict) and not _has_ended(note):
            notes.append(note)
    return notes


def _has_ended(note: dict[str, Any]) -> bool:
    """Return whether a process of this machine is gone; of others nobody knows."""
    if note.get("host") != socket.gethostname() or not isinstance(note.get("pid"), int):
        return False
    try:
        os.kill(note["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _told(holders: list[dict[str, Any]]) -> str:
    if not holders:
        return "another process writes here"
    one = holders[0]
    return f"process {one.get('pid')} on {one.get('host')} writes here since {one.get('since')}"


def _now() -> str:
    return datetime.now().isoformat(sep=" ", timespec="seconds")
