"""Files that outlive a power cut: what is written is on the disk before its name is."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, Any


def sync_file(file: IO[Any]) -> None:
    """Wait until all that was written into an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk; some network file systems cannot be asked."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def keep_previous(path: Path, previous: Path) -> None:
    """Keep the file at `path` as `previous`, too, before `path` is replaced: a second name, not a copy.

    A link, a missing file and a file system without second names leave things as they are.
    """
    if path.is_symlink() or not path.is_file():
        return
    temporary = previous.with_name(f".{previous.name}.link")
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
        os.link(path, temporary)
        temporary.replace(previous)
