"""Worker processes leave Ctrl-C to their process, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cups.worker_pool import WorkerPool

ROOT = Path(__file__).resolve().parents[2]
DIES = """
import multiprocessing, os, sys
from cups.worker_pool import WorkerPool
if __name__ == "__main__":
    pool = WorkerPool(1, multiprocessing.get_context(sys.argv[1]))
    print(pool.submit(os.getpid).result(), flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_worker_pool__ctrl_c_of_the_terminal_does_not_reach_a_worker(method: str) -> None:
    with WorkerPool(1, multiprocessing.get_context(method), os.chdir, ("/",)) as pool:
        worker = pool.submit(os.getpid).result()
        os.kill(worker, signal.SIGINT)
        assert pool.submit(os.getpid).result() == worker and pool.submit(os.getcwd).result() == "/"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_worker_pool__workers_end_with_their_process(method: str, tmp_path: Path) -> None:
    """A worker whose process was killed waited for its next task for ever."""
    (tmp_path / "dies.py").write_text(DIES)
    command = [sys.executable, str(tmp_path / "dies.py"), method]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True, timeout=60)
    worker = Path("/proc") / run.stdout.strip()
    deadline = time.monotonic() + 30
    while worker.exists() and "State:\tZ" not in (worker / "status").read_text():
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)
