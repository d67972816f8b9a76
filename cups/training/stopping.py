"""Stopping between two steps: signals that a training notes and obeys at the end of its step."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

from cups.errors import Stopped
from cups.interrupts import Repeats
from cups.io.children import WARNINGS

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)


class StopSignals:
    """While entered, the first of `SIGNALS` is noted only; the same one again ends the process at once.

    A run that a warning of SLURM stopped is queued again at the end of the block: by its first process, when
    all is saved, and outside of any signal handler.

    Attributes:
        received: number of the signal noted, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._repeats = Repeats()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self.received = 0
        self._repeats = Repeats()
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.catch()
        return self

    def catch(self) -> None:
        """Take the signals (back): Lightning's own handler of SIGTERM waits for other processes."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, _: object) -> None:
        if self._repeats.insists(number):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = self.received or number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
        if isinstance(error, Stopped) and error.number in WARNINGS:
            requeue()


def requeue() -> bool:
    """Queue the SLURM job of this process again, if it is in one; returns whether that is done."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or shutil.which("scontrol") is None:
        return False
    try:
        asked = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False
        )
        problem = " ".join(asked.stderr.split()) if asked.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem is not None:
        log.warning("SLURM job %s: not queued again (%s); submit it again", job, problem)
        return False
    log.info("SLURM job %s: queued again", job)
    return True


class Clock:
    """Says when a number of minutes has passed since it last said so, or was made."""

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.restart()

    def restart(self) -> None:
        """Start to wait anew."""
        self._started = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the minutes have passed."""
        return time.monotonic() - self._started >= self.seconds


def agree_on(value: int, device: torch.device) -> int:
    """Return the highest value that a process of the run gives; every process must take part."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    given = torch.tensor(value, device=device)
    dist.all_reduce(given, dist.ReduceOp.MAX)
    return int(given)
