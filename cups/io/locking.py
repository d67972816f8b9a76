"""Locks between the processes, perhaps on several machines, that work on one folder."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)


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
