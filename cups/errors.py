"""The exceptions that entry scripts turn into a single line and an exit code."""

from __future__ import annotations

import errno
import logging
import re
import signal
import sys
from collections.abc import Callable

from cups.interrupts import Interrupts


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


OF_THE_PLACE = {
    errno.EROFS: "write somewhere else",
    errno.EACCES: "change its rights, or use another place",
    errno.EPERM: "change its rights, or use another place",
    errno.ENOSPC: "make room on that disk, or write somewhere else",
    errno.EDQUOT: "make room within your quota, or write somewhere else",
    errno.ENAMETOOLONG: "use a shorter name",
}
"""What a user can do about a place that cannot be read or written, by the number of the error."""


def as_flags(message: str) -> str:
    """Return a message whose settings in backquotes are named as the flags of a command line."""
    return re.sub(r"`(\w+)`", r"--\1", message)


def run_main(main: Callable[[], int | None]) -> None:
    """Run an entry point, log on the terminal; a `UserError` becomes one line on stderr and its exit code.

    A run that a signal stopped exits as a shell expects it: 130 for Ctrl-C, 143 for SIGTERM. A second Ctrl-C
    ends it at once. Neither shows a traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    interrupts = Interrupts()
    interrupts.catch()
    try:
        code = _uninterrupted(main, interrupts)
    except UserError as error:
        print(f"error: {as_flags(str(error))}", file=sys.stderr)
        sys.exit(error.code)
    except Stopped as stopped:
        if str(stopped):
            print(as_flags(str(stopped)), file=sys.stderr)
        sys.exit(stopped.code)
    except OSError as error:
        if error.errno not in OF_THE_PLACE or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}; {OF_THE_PLACE[error.errno]}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(128 + (interrupts.received or signal.SIGINT))
    finally:
        interrupts.over = True
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
