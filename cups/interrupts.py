"""Ctrl-C and SIGTERM in our scripts: a tidy end, never a traceback, at once the second time.

Python raises `KeyboardInterrupt` at whatever line it is: in the middle of an import, where libraries swallow
or translate it, or in a destructor, where it is printed and forgotten. `cups` imports this module before
anything heavier, so it holds from a script's first line on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MESSAGE = "interrupted; run the same command again to continue"
IMPORTING = "<frozen importlib._bootstrap>"
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

    The first signal raises `KeyboardInterrupt` or `Terminated`. What insists ends the process at once, and so
    does the first one during an import, and once the script is `over`: its threads may still be ending then.
    Files are whole at any moment, for they are renamed into place.

    Attributes:
        received: number of the first signal, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self.over = False
        self._process = os.getpid()
        self._repeats = Repeats()
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        """Take the signals, where they are not ignored (as in a background job of a shell)."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        sys.unraisablehook = self._unraisable

    def leave(self) -> None:
        """Note that the script is over; where it ran within another's process, give the signals back."""
        self.over = True
        if is_ours() or not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        sys.unraisablehook = sys.__unraisablehook__

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and os.getpid() != self._process:
            return  # a terminal's Ctrl-C reaches forked processes too: they are for their parent to end
        if self._repeats.insists(number) or self.over:
            os._exit(128 + number)
        if self.received:
            return
        self.received = number
        if is_importing(frame):
            tell()
            os._exit(128 + number)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _unraisable(self, report: sys.UnraisableHookArgs) -> None:
        """End the script where Python would print the interruption and go on: in a destructor."""
        if issubclass(report.exc_type, KeyboardInterrupt):
            os._exit(128 + (self.received or signal.SIGINT))
        sys.__unraisablehook__(report)

    def uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Print one line of an interruption outside of `run_main`; other errors as they are."""
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        tell()
        os._exit(128 + (self.received or signal.SIGINT))


def tell() -> None:
    """Say that the run was interrupted; a signal may come while something else is being printed."""
    os.write(2, f"{MESSAGE}\n".encode())


def is_importing(frame: FrameType | None) -> bool:
    """Return whether a frame runs because something is being imported."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False


def is_ours() -> bool:
    """Return whether this process runs a script of this repository, not a test, a notebook or another's."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file is None:  # `python -m cups.data.toy_streets` imports this package before it makes a main module
        return sys.argv[:1] == ["-m"]
    path = os.path.realpath(file)
    inside = path.startswith(ROOT + os.sep) and "site-packages" not in path
    return inside and not path.startswith(os.path.join(ROOT, "tests") + os.sep)


def take_interrupts() -> None:
    """Take the signals in a process that runs a script of ours, till `run_main` takes them."""
    if is_ours() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        interrupts = Interrupts()
        interrupts.catch()
        sys.excepthook = interrupts.uncaught


take_interrupts()
