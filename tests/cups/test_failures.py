"""Failures that are no fault of the code: one line that names the place and what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cups.errors import UserError, run_main
from cups.failures import line_of


def _line(error: BaseException) -> str:
    line = line_of(error)
    assert line is not None and "\n" not in line
    return line


@pytest.mark.parametrize(
    ("error", "start", "fix"),
    [
        (
            OSError(errno.ENOSPC, "No space left", "/runs/x"),
            "/runs/x: No space left;",
            "make room on that disk",
        ),
        (
            OSError(errno.EIO, "Input/output error", b"/d"),
            "/d: Input/output error;",
            "copy the files elsewhere",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.png"), "x.png: No such file;", "check the path"),
        (OSError("cannot identify image file"), "OSError: cannot identify image file", ""),
        (MemoryError(), "too little memory;", "`batch_size`"),
        (MemoryError("Unable to allocate 720. GiB"), "too little memory (Unable to allocate 720. GiB);", ""),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "too little memory", ""),
        (
            UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"),
            "a file or name is not UTF-8",
            "save it as UTF-8",
        ),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), "a name cannot be written", "rename"),
        (
            RecursionError("maximum recursion depth exceeded"),
            "something is nested too deep",
            "check the files",
        ),
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of ..."
            ),
            "the GPU has too little memory (CUDA out of memory. Tried to allocate 2.00 GiB);",
            "TRAINING.BATCH_SIZE",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
            "a process that reads samples",
            "",
        ),
    ],
)
def test_line_of__says_what_and_the_fix(error: BaseException, start: str, fix: str) -> None:
    line = _line(error)
    assert line.startswith(start) and fix in line


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shapes differ"), ValueError("x")])
def test_line_of__faults_of_the_code_have_none(error: BaseException) -> None:
    assert line_of(error) is None


def test_line_of__a_full_disk_behind_another_error() -> None:
    """Torch raises its own when the file under it fails."""
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 704 vs 598")
    except RuntimeError as error:
        line = _line(error)
    assert line.startswith("a disk that is written to: No space left on device; make room")


def test_line_of__a_full_disk_is_looked_for_among_the_folders_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", f"--log_path={tmp_path}", "--steps", "3"])
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda folder: SimpleNamespace(free=2**19 if Path(folder) == tmp_path else 2**40),
    )
    line = _line(OSError(errno.ENOSPC, "No space left on device"))
    assert line.startswith(f"{tmp_path} (0.5 MiB are free): No space left on device")


class _Broken(Dataset[Any]):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        raise self.error


def test_run_main__an_error_of_a_loader_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It comes with the traceback of the process that it was raised in."""
    error = UserError("a.png: damaged PNG; copy it again")
    with pytest.raises(SystemExit) as end:
        run_main(lambda: list(DataLoader(_Broken(error), num_workers=1)) and None)
    assert (end.value.code, capsys.readouterr().err) == (2, "error: a.png: damaged PNG; copy it again\n")


def _fill_disk(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_line_of__a_full_disk_in_another_process(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(OSError) as error:
        pool.submit(_fill_disk, tmp_path).result()
    assert _line(error.value).startswith(f"{tmp_path}: No space left on device; make room")
