"""What a user reads of a failure that is no fault of the code: a full disk, too little memory, odd text."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk, or a share of it, that is full."""
OF_THE_PLACE = {
    errno.EROFS: "write somewhere else",
    errno.EACCES: "change its rights, or use another place",
    errno.EPERM: "change its rights, or use another place",
    errno.ENOSPC: "make room on that disk, or write somewhere else",
    errno.EDQUOT: "make room within your quota, or write somewhere else",
    errno.EFBIG: "write to a disk that takes larger files",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "give a file",
    errno.EEXIST: "remove it, or use another name",
    errno.ELOOP: "its link leads to itself; remove it",
    errno.EIO: "the disk fails, or the way to it; copy the files elsewhere",
    errno.ESTALE: "the network disk was lost; run the same command again",
    errno.EMFILE: "too many files are open; raise that with ulimit -n, or use fewer `num_workers`",
}
"""What a user can do about a place that cannot be read or written, by the number of the error."""
ON_THE_CPU = (
    "close other programs, or lower what applies: `num_workers`, `batch_size`, `cache_gb`, "
    "TRAINING.BATCH_SIZE, SYSTEM.NUM_WORKERS, DATA.CROP_RESOLUTION"
)
ON_THE_GPU = (
    "lower what applies: `batch_size`, TRAINING.BATCH_SIZE (and raise TRAINING.ACCUMULATE_GRAD_BATCHES), "
    "VALIDATION.BATCH_SIZE, DATA.CROP_RESOLUTION, or set MODEL.GRADIENT_CHECKPOINTING True"
)
_CPU_SIGNS = ("can't allocate memory", "not enough memory", "Insufficient memory", "Unable to allocate")
_GPU_SIGNS = ("CUDA out of memory", "HIP out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_LONGEST = 300
LITTLE_ROOM = 64 * 2**20
"""Bytes that are free on a disk of which one is told that it is full."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and those behind it: the one that it was raised from, or while handling which."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        yield behind
        behind = behind.__cause__ or behind.__context__


def own_words(error: BaseException) -> str:
    """Return what an error says; without the traceback of the loader's process that it comes from."""
    text = str(error)
    if text.startswith("Caught ") and "Original Traceback" in text:
        told = re.findall(r"^(?:\w+\.)*\w+: (.*)$", text, re.MULTILINE)
        text = told[-1] if told else text.splitlines()[0]
    return text


def line_of(error: BaseException) -> str | None:
    """Return the line that tells a user of a failure and what to do; None for a fault of the code."""
    for cause in causes(error):
        if cause is error or (isinstance(cause, OSError) and cause.errno in FULL):
            line = _line(cause)
            if line is not None:
                return line[:_LONGEST]
    return None


def _line(error: BaseException) -> str | None:
    if isinstance(error, OSError):
        return _of_place(error)
    words = " ".join(own_words(error).split())
    if isinstance(error, UnicodeDecodeError):
        return f"a file or name is not UTF-8 ({words}); save it as UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return f"a name cannot be written as UTF-8 ({words}); rename that file"
    if isinstance(error, RecursionError):
        return f"something is nested too deep ({words}); check the files given"
    if type(error).__name__ == "OutOfMemoryError" or any(sign in words for sign in _GPU_SIGNS):
        return f"the GPU has too little memory ({_first_sentences(words)}); {ON_THE_GPU}"
    if isinstance(error, MemoryError) or any(sign in words for sign in _CPU_SIGNS):
        reason = f" ({_first_sentences(words)})" if words else ""
        return f"too little memory{reason}; {ON_THE_CPU}"
    if re.match(r"DataLoader worker \(pid.*\) (is killed|exited)", words):
        return f"a process that reads samples was ended, likely for want of memory; {ON_THE_CPU}"
    return None


def _first_sentences(words: str) -> str:
    """Return what was asked for: torch adds paragraphs of advice."""
    return ". ".join(words.split(". ")[:2])[:120]


def _of_place(error: OSError) -> str:
    fix = OF_THE_PLACE.get(error.errno or 0)
    reason = error.strerror or " ".join(own_words(error).split()) or type(error).__name__
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {reason}; {fix or 'check that file'}"
    if error.errno in FULL:
        return f"{_fullest()}: {reason}; {fix}"
    return f"{reason}; {fix}" if fix else f"{type(error).__name__}: {reason}"


def _fullest() -> str:
    """Return the folder with the least room, and that room, of those that the command may write to.

    Where all have room, nothing tells which disk it was.
    """
    words = [word.partition("=")[2] if word.startswith("-") else word for word in sys.argv[1:]]
    given = [Path(word) for word in words if word]
    folders = {folder for path in given for folder in (path, *path.parents) if folder.is_dir()}
    folders = {folder.resolve() for folder in folders} | {Path.cwd(), Path(tempfile.gettempdir())}
    room = {folder: shutil.disk_usage(folder).free for folder in folders}
    least = min(room, key=lambda folder: (room[folder], -len(folder.parts)))
    if room[least] > LITTLE_ROOM:
        return "a disk that is written to"
    return f"{least} ({room[least] / 2**20:.1f} MiB are free)"
