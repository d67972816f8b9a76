"""The exceptions that entry scripts turn into a single line and an exit code."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable

from cups.failures import line_of, own_words
from cups.interrupts import MESSAGE, Interrupts

TRACEBACK_VARIABLE = "CUPS_TRACEBACK"
"""Environment variable: 1 shows where an error came from, for who mends the code."""


class UserError(Exception):
    """Something the user can fix. The message names the file (or key) and the fix, in one line.

    Settings are written in backquotes, `like_this`: a script's user reads `--like_this`.
    """

    code = 2
    """Exit code of a script that ends with it."""


class NothingFound(UserError):
    """A step ran to its end and found nothing, or next to nothing; what it wrote stays.

    The message names the cause, a picture of what was seen, and how to go on all the same.
    """

    code = 3


class Stopped(Exception):
    """A run that a signal stopped in good order; the message says how it goes on.

    Args:
        number: of the signal; 0 where another process of the run tells the user.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number
        self.code = 128 + number if number else 0


def as_flags(message: str) -> str:
    """Return a message whose settings in backquotes are named as the flags of a command line."""
    return re.sub(r"`(\w+)`", r"--\1", message)


def run_main(main: Callable[[], int | None]) -> None:
    """Run an entry point, log on the terminal; a `UserError` becomes one line on stderr and its exit code.

    So do failures that are no fault of the code, see `cups.failures`. A run that a signal stopped exits as a
    shell expects it: 130 for Ctrl-C, 143 for SIGTERM. A second Ctrl-C ends it at once. Neither shows a
    traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    interrupts = Interrupts()
    interrupts.catch()
    try:
        code = _uninterrupted(main, interrupts)
    except Stopped as stopped:
        if str(stopped):
            print(as_flags(str(stopped)), file=sys.stderr)
        sys.exit(stopped.code)
    except KeyboardInterrupt:
        print(MESSAGE, file=sys.stderr)
        sys.exit(128 + (interrupts.received or signal.SIGINT))
    except Exception as error:
        line = own_words(error) if isinstance(error, UserError) else line_of(error)
        if line is None or os.environ.get(TRACEBACK_VARIABLE) == "1":
            raise
        print(f"error: {as_flags(line)}", file=sys.stderr)
        sys.exit(error.code if isinstance(error, UserError) else UserError.code)
    finally:
        interrupts.leave()
    sys.exit(code or 0)


def _uninterrupted(main: Callable[[], int | None], interrupts: Interrupts) -> int | None:
    """Run `main`; what a library makes of a signal that came within it (any exception) is an interruption."""
    try:
        return main()
    except (UserError, Stopped):
        raise
    except Exception as error:
        if interrupts.received:
            raise KeyboardInterrupt from error
        raise
