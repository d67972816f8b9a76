"""One writer a folder: who comes second is told who holds it."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from cups.errors import UserError
from cups.io.locking import one_writer

HOLD = """
import sys
from pathlib import Path
from cups.io.locking import one_writer
with one_writer(Path(sys.argv[1]), "fix", *sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.read()
"""
Holder = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Holder]:
    """Start processes that hold a folder, until their input ends."""
    started = []

    def start(folder: Path, *share: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        argv = [sys.executable, "-c", HOLD, str(folder), *share]
        process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_one_writer__the_second_is_told_who_holds_the_folder(tmp_path: Path, hold: Holder) -> None:
    holder = hold(tmp_path / "run")
    told = rf"run: process {holder.pid} on {socket.gethostname()} writes here since 20.*; wait for it, or go$"
    for share in (None, "other"):
        with pytest.raises(UserError, match=told), one_writer(tmp_path / "run", "go", share):
            pass
    holder.kill()
    holder.wait()
    with one_writer(tmp_path / "run", "go"), one_writer(tmp_path / "run", "go"):
        note = json.loads((tmp_path / "run" / ".writer").read_text())
    assert note["pid"] == os.getpid()


def test_one_writer__those_with_the_same_settings_share(tmp_path: Path, hold: Holder) -> None:
    first = hold(tmp_path, "same")
    with one_writer(tmp_path, "", "same"):
        first.kill()
        first.wait()
        second = hold(tmp_path, "same")
    with pytest.raises(UserError, match=f"process {second.pid} on "), one_writer(tmp_path, "", "other"):
        pass
    with pytest.raises(UserError, match=f"process {second.pid} on "), one_writer(tmp_path, ""):
        pass


def _nothing(end: Any) -> None:
    end.send(0)
    end.recv()


def test_one_writer__ends_with_the_block_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    """Loader processes are forks, and outlive a killed training by seconds."""
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_nothing, args=(there,), daemon=True)
    with one_writer(tmp_path, ""):
        child.start()
        here.recv()
    with (tmp_path / ".writer").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert child.is_alive()
    here.send(0)
    child.join(10)


def test_one_writer__beside_a_folder_that_is_removed(tmp_path: Path) -> None:
    with one_writer(tmp_path / "demo", "", beside=True):
        assert not (tmp_path / "demo").exists() and (tmp_path / ".demo.writer").is_file()


def test_one_writer__without_locks_there_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(file: IO[str], kind: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with one_writer(tmp_path, ""):
        assert "No locks available" in caplog.text
