"""Runs a command and reports its exit code and peak memory through a pipe; see `studies.measure`.

Linux carries the peak memory of a process over to the programs it starts. A large program that measures its
children therefore reads its own size; this small one does not. It is run as a file, without importing `cups`.

Usage: measured_child.py PIPE_FD PROGRAM [ARGUMENT ...]
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType


def end_with_parent(parent: int) -> None:
    """Let Linux send SIGTERM to this process when its parent is gone; `cups.io.children` without `cups`."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Write "exit_code ru_maxrss" to the pipe, or "start errno" when the program cannot be started."""
    report, argv = int(sys.argv[1]), sys.argv[2:]
    # A terminal's Ctrl-C reaches the program too: its end is awaited here.
    signal.signal(signal.SIGINT, lambda *_: None)
    parent = os.getpid()
    try:
        process = subprocess.Popen(argv, preexec_fn=lambda: end_with_parent(parent))  # noqa: PLW1509
    except OSError as error:
        os.write(report, f"start {error.errno}".encode())
        return 127

    def terminate(number: int, frame: FrameType | None) -> None:
        process.terminate()

    signal.signal(signal.SIGTERM, terminate)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    os.write(report, f"{process.returncode} {usage.ru_maxrss}".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
