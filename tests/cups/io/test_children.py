"""Children end with their parent, and signals reach those whom they shall reach."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cups.io.children import run_child

WRITER = """
import os, sys, time
open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))
os.rename(sys.argv[1] + '.new', sys.argv[1])
time.sleep(60)
"""
RUN_CHILD = "import sys; from cups.io.children import run_child; run_child(sys.argv[1:])"
MEASURED = "import sys; from studies.measure import run_measured; run_measured(sys.argv[1:])"
POOL = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from cups.io.children import start_worker, worker_context

def busy(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    with ProcessPoolExecutor(2, worker_context(), start_worker) as pool:
        list(pool.map(busy, [sys.argv[1] + "_a", sys.argv[1] + "_b"]))
"""


def _wait(true: Callable[[], object], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells children of their parent's end")
@pytest.mark.parametrize(
    ("code", "number"),
    [
        (RUN_CHILD, signal.SIGKILL),
        (MEASURED, signal.SIGTERM),
        (MEASURED, signal.SIGKILL),
        (POOL, signal.SIGKILL),
    ],
)
def test_a_killed_parent_leaves_no_children(tmp_path: Path, code: str, number: int) -> None:
    """SIGTERM to the demo once left its training writing."""
    note = tmp_path / "pid"
    script = tmp_path / "parent.py"
    script.write_text(code)
    writer = [] if code is POOL else [sys.executable, "-S", "-c", WRITER]
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": root}
    parent = subprocess.Popen([sys.executable, str(script), *writer, str(note)], env=environment)
    notes = [tmp_path / "pid_a", tmp_path / "pid_b"] if code is POOL else [note]
    try:
        assert _wait(lambda: all(one.is_file() and one.read_text() for one in notes))
        parent.send_signal(number)
        parent.wait(30)
        pids = [int(one.read_text()) for one in notes]
        assert _wait(lambda: all(map(_is_gone, pids)), 20)
    finally:
        parent.kill()


def test_run_child__code_as_of_a_shell() -> None:
    assert run_child([sys.executable, "-S", "-c", "raise SystemExit(3)"]) == 3
    assert run_child([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


def test_run_child__sigterm_is_handed_on_and_awaited(tmp_path: Path) -> None:
    """A training saves itself then."""
    code = (
        "import signal, time, os, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'w').write('saved'), os._exit(143)))\n"
        "os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    assert run_child([sys.executable, "-S", "-c", code, str(tmp_path / "state")]) == 143
    assert (tmp_path / "state").read_text() == "saved"
