"""Ctrl-C and SIGTERM in an entry script: a tidy end, never a traceback, at once the second time."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)
FORWARDED_SECONDS = 3.0
"""A scheduler signals all processes of a job, and their parents hand it on: for so long it counts once."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception: what a Ctrl-C tidies up is tidied up for it, too."""


class Repeats:
    """Says whether a signal is one that insists, or the first one once more.

    Only the same signal again insists. A second Ctrl-C always does; the others reach a process on several
    ways at nearly the same time.
    """

    def __init__(self) -> None:
        self._first: dict[int, float] = {}

    def insists(self, number: int) -> bool:
        """Note a signal; return whether it is to end the process at once."""
        now = time.monotonic()
        first = self._first.setdefault(number, now)
        return first != now and (number == signal.SIGINT or now - first > FORWARDED_SECONDS)


class Interrupts:
    """The handlers of an entry script.

    The first signal raises `KeyboardInterrupt` or `Terminated`. What insists ends the process, and so does
    the first one once the script is `over`: its threads may still be ending then.

    Attributes:
        received: number of the first signal, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self.over = False
        self._repeats = Repeats()

    def catch(self) -> None:
        """Take the signals, where they are not ignored (as in a background job of a shell)."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        sys.unraisablehook = self._unraisable

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._repeats.insists(number) or self.over:
            os._exit(128 + number)
        if self.received:
            return
        self.received = number
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _unraisable(self, report: sys.UnraisableHookArgs) -> None:
        """End the script where Python would print the interruption and go on: in a destructor."""
        if issubclass(report.exc_type, KeyboardInterrupt):
            os._exit(128 + (self.received or signal.SIGINT))
        sys.__unraisablehook__(report)
