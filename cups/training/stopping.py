"""Stopping between two steps: signals that a training notes and obeys at the end of its step."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While entered, the first SIGINT or SIGTERM is noted only; a second one ends the process at once.

    Attributes:
        received: number of the signal noted, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self.received = 0
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
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}


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


def ignore_stop_signals(_: int = 0) -> None:
    """Let a loader process outlive what stops its training, which ends it when the step is saved.

    Ctrl-C and schedulers signal every process of a job, and a loader that died would fail the step.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def agree_on(value: int, device: torch.device) -> int:
    """Return the highest value that a process of the run gives; every process must take part."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    given = torch.tensor(value, device=device)
    dist.all_reduce(given, dist.ReduceOp.MAX)
    return int(given)
