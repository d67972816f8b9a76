"""Ctrl-C in our scripts: one line, never a traceback, wherever it comes.

Python raises `KeyboardInterrupt` at whatever line it is: in the middle of an import, where libraries swallow
or translate it; in a destructor, where it is printed and forgotten; in the clean-up after an earlier one.
`cups` imports this module before anything heavier, so it holds from a script's first line on.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MESSAGE = "interrupted; run the same command again to continue"
CODE = 128 + signal.SIGINT
IMPORTING = "<frozen importlib._bootstrap>"
LAUNCHER = "<frozen runpy>"


class Interrupts:
    """What SIGINT does in a script of ours.

    The first one raises `KeyboardInterrupt`, for which `run_main` has a line. During an import, after the
    script's end, and while an earlier one is still being obeyed, the process ends at once: files are whole
    at any moment, for they are renamed into place. Processes forked from this one leave it to this one.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.obeying = False

    def install(self) -> None:
        """Take SIGINT, and what Python prints of an interrupt that nothing caught."""
        signal.signal(signal.SIGINT, self.on_signal)
        self._uncaught, sys.excepthook = sys.excepthook, self.on_uncaught
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self.on_unraisable

    def on_signal(self, _: int, frame: FrameType | None) -> None:
        """Handle SIGINT."""
        if os.getpid() != self.process:
            return
        if self.obeying:
            os._exit(CODE)
        if is_importing(frame) or is_over(frame):
            tell()
            os._exit(CODE)
        self.obeying = True
        raise KeyboardInterrupt

    def on_uncaught(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Print one line of an interrupt that no `run_main` caught; other errors as they are."""
        if issubclass(kind, KeyboardInterrupt):
            tell()
            os._exit(CODE)
        self._uncaught(kind, error, trace)

    def on_unraisable(self, unraisable: Any) -> None:
        """Interrupt again where a destructor or a callback swallowed it."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self.obeying = False
            _thread.interrupt_main()
        else:
            self._unraisable(unraisable)


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


def is_over(frame: FrameType | None) -> bool:
    """Return whether a frame runs after the script, within what ends Python."""
    outermost = frame
    while outermost is not None and outermost.f_back is not None:
        outermost = outermost.f_back
    if outermost is None:
        return True
    return outermost.f_globals.get("__name__") != "__main__" and outermost.f_code.co_filename != LAUNCHER


def is_ours() -> bool:
    """Return whether this process runs a script of this repository, not a test, a notebook or another's."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file is None:  # `python -m cups.data.toy_streets` imports this package before it makes a main module
        return sys.argv[:1] == ["-m"]
    path = os.path.realpath(file)
    inside = path.startswith(ROOT + os.sep) and "site-packages" not in path
    return inside and not path.startswith(os.path.join(ROOT, "tests") + os.sep)


def take_interrupts() -> None:
    """Take SIGINT in a process that runs a script of ours, unless it is ignored (`nohup`, `&`)."""
    if is_ours() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        Interrupts().install()


take_interrupts()
