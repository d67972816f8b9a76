"""Which values a setting takes: one way to say it for keys of the configuration and for flags."""

from __future__ import annotations

import argparse
import numbers
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cups.errors import UserError

MANY = 10**9
"""Most of anything that is counted: more is a slip of the keyboard."""
LONGEST_NAME = 200
"""Bytes of a name; the folders and files made of it have at most 255."""
LONGEST_PATH = 4095
"""Bytes of a path (Linux)."""


@dataclass(frozen=True)
class Check:
    """The values that a setting takes.

    Attributes:
        allowed: them, in a few words.
        accepts: whether a value is one of them.
        demand: what a refused value is told, or a function of the value; None makes it of `allowed`.
        text: whether values are text, so that a folder named 2026 is none of the numbers.
        told: whether `allowed` says more than the type does, so that `--help` shows it.
    """

    allowed: str
    accepts: Callable[[Any], bool]
    demand: str | Callable[[Any], str] | None = None
    text: bool = False
    told: bool = True

    def wrong(self, value: Any) -> str | None:
        """Return what a value is told ("must be at least 1"), None for an allowed one."""
        if self.accepts(value):
            return None
        if callable(self.demand):
            return self.demand(value)
        return self.demand or f"must be {self.allowed}"

    def refusal(self, key: str, value: Any) -> str | None:
        """Return what is wrong with the value of a key, None for an allowed one."""
        wrong = self.wrong(value)
        if wrong is None:
            return None
        return f"{key} is {shown(value)}; {f'it {wrong}' if wrong.startswith('must') else wrong}"


def shown(value: Any) -> str:
    """Return a value as an error shows it: in one line, and not longer than one."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def quoted(text: str) -> str:
    """Return text as an error names it; what would break the line, or be too long for it, is quoted."""
    return text if text.isprintable() and 0 < len(text) <= 100 else shown(text)


def refuse_impossible(settings: object, checks: Mapping[str, Check]) -> None:
    """Refuse settings with a value that is not possible; None stands for one that was not given.

    Args:
        settings: has an attribute of each name.
        checks: of the attributes, by name.

    Raises:
        UserError: the first such value, and what it must be.
    """
    for name, check in checks.items():
        value = getattr(settings, name)
        if value is not None and (wrong := check.wrong(value)):
            given = " ".join(map(str, value)) if is_list(value) else str(value)
            raise UserError(f"`{name}` {quoted(given)}: {wrong}")


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number (True and False are none)."""
    known = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return known and abs(value) < float("inf")


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number (True and False are none)."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number of at least 1."""
    return is_whole(value) and 1 <= value <= MANY


def is_list(value: Any) -> bool:
    """Return whether a value is a list or a tuple."""
    return isinstance(value, list | tuple)


def is_text(value: Any) -> bool:
    """Return whether a value is text of one line that a file can hold."""
    return isinstance(value, str) and value.isprintable() and _bytes(value) is not None


def is_name(value: Any) -> bool:
    """Return whether a value names a file or folder: one part of a path, and not "." or ".."."""
    if not is_text(value) or value.strip(". ") == "" or "/" in value:
        return False
    return len(_bytes(value) or b"") <= LONGEST_NAME


def is_path(value: Any) -> bool:
    """Return whether a value can be a path: not empty, no control characters, no part that is too long."""
    if not isinstance(value, str | os.PathLike) or not is_text(text := os.fspath(value)):
        return False
    parts = (_bytes(text) or b"").split(b"/")
    return bool(text.strip()) and len(text) <= LONGEST_PATH and max(map(len, parts)) <= 255


class Reader:
    """Reads a value of a command line that a check accepts: a `type` of `argparse`.

    Args:
        kind: int, float, str, ...
        check: which of its values.
    """

    def __init__(self, kind: type, check: Check) -> None:
        self.kind, self.check, self.__name__ = kind, check, kind.__name__

    def __call__(self, text: str) -> Any:
        """Return the value.

        Raises:
            ArgumentTypeError, ValueError: it is none that is allowed.
        """
        value = self.kind(text)
        if wrong := self.check.wrong(value):
            raise argparse.ArgumentTypeError(f"{quoted(text)}: {wrong}")
        return value


def read_path(text: str) -> Path:
    """Return a path of a command line: a `type` of `argparse`.

    Raises:
        ArgumentTypeError: no text of a path: `Path("")` would be the current folder.
    """
    return Path(Reader(str, PATH)(text))


def _bytes(text: str) -> bytes | None:
    try:
        return text.encode()
    except UnicodeEncodeError:  # bytes of a command line that are no UTF-8
        return None


def is_size(value: Any, smallest: int = 1, largest: int = MANY) -> bool:
    """Return whether a value is (height, width) in whole pixels, each in a range."""
    pair = is_list(value) and len(value) == 2
    return pair and all(is_whole(side) and smallest <= side <= largest for side in value)


def in_words(number: float) -> str:
    """Return a number as people write it: 10^9, 0.001."""
    tens = len(str(number)) - 1
    return f"10^{tens}" if tens > 5 and number == 10**tens else f"{number:.10g}"


def within(
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> Check:
    """Return the check of a finite number.

    Args:
        least, most: the smallest and the largest that are allowed.
        above, below: what it must exceed, or stay below.
        whole: whether it counts something.
    """

    bounds = [
        (least, "at least", lambda value: value >= least),
        (above, "above", lambda value: value > above),
        (most, "at most", lambda value: value <= most),
        (below, "below", lambda value: value < below),
    ]

    def refused(value: Any) -> str:
        if not (is_whole if whole else is_number)(value):
            return "must be a whole number" if whole else "must be a number"
        for bound, words, fits in bounds:
            if bound is not None and not fits(value):
                share = (least, most) == (0, 1) and not whole
                return "must lie in 0-1" if share else f"must be {words} {in_words(bound)}"
        return ""

    low = [f"above {in_words(above)}"] if above is not None else []
    high = [f"below {in_words(below)}"] if below is not None else []
    if least is not None and most is not None:
        low = [f"{in_words(least)}{' to ' if whole else '-'}{in_words(most)}"]
    else:
        low += [] if least is None else [f"{in_words(least)} or more"]
        high += [] if most is None else [f"at most {in_words(most)}"]
    words = ["whole", *low, *high] if whole else [*low, *high]
    return Check(", ".join(words) or "a number", lambda value: not refused(value), refused)


def whole(least: int = 1, most: int = MANY) -> Check:
    """Return the check of a whole number."""
    return within(least, most, whole=True)


def choice(values: Iterable[Any]) -> Check:
    """Return the check of a setting that takes one of some values."""
    values = tuple(values)
    words = ", ".join(map(str, values))
    return Check(words, values.__contains__, f"choose from {words}")


def optional(check: Check, without: str = "None") -> Check:
    """Return the check of a setting that may also be None.

    Args:
        check: of the other values.
        without: None in a few words, e.g. "None (as in Stage 2)".
    """

    def demand(value: Any) -> str:
        wrong = check.wrong(value) or ""
        return f"{wrong}, or None" if wrong.startswith("must") else wrong

    return Check(
        f"{check.allowed}, or {without}",
        lambda value: value is None or check.accepts(value),
        demand,
        text=check.text,
    )


def each(check: Check, words: str, least: int = 1) -> Check:
    """Return the check of a list whose items pass another check, with at least so many of them."""
    return Check(
        words, lambda value: is_list(value) and len(value) >= least and all(map(check.accepts, value))
    )


TEXT = Check("text", is_text, "must be text of one line", text=True, told=False)
DEVICE = Check(
    "auto, cpu, cuda, cuda:N or mps",
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", value)),
    text=True,
    told=False,
)
NAME = Check(
    "a name", is_name, f"must be a name: no /, not .., at most {LONGEST_NAME} bytes", text=True, told=False
)
PATH = Check(
    "a path",
    is_path,
    "must be a path: not empty, in one line, no name above 255 bytes",
    text=True,
    told=False,
)
PATTERN = Check(
    "a pattern", is_path, f"must be a pattern of names: not empty, at most {LONGEST_PATH} bytes", text=True
)
SWITCH = Check("True, False", lambda value: isinstance(value, bool), told=False)
POSITIVE = within(above=0)
NOT_NEGATIVE = within(0)
FRACTION = within(0, 1)
SHARE = within(above=0, most=1)
BELOW_ONE = within(0, below=1)
COUNT = whole()
WHOLE = whole(0)
BATCH = whole(1, 2**16)
SEED = whole(0, 2**32 - 1)
SIDE = whole(1, 2**15)
"""Pixels of one side of what a network sees: 32768 squared in RGB is 3 GB."""
ROWS = whole(0, 2**15)
"""The same where 0 stands for the image's own."""
WIDTH = whole(1, 2**16)
"""Channels of a layer: a matrix of 65536 squared is 17 GB."""
WORKERS = whole(0, 1024)
CLUSTERS = whole(1, 65534)
"""65535 is void in 16 bits."""
CLASS = whole(0, 65534)
RATE = within(above=0, most=1000)
"""Of learning."""
DECAY = within(0, 1000)
MINUTES = within(0, 10**6)
GIGABYTES = within(0, 10**6)
SIZE = Check("(height, width), each 1 to 32768", lambda value: is_size(value, 1, 2**15))
CROP = Check("(height, width), each 32 to 32768", lambda value: is_size(value, 32, 2**15))
SCALE = within(above=0, most=16)
"""Factor by which images are resized."""
SCALES = each(SCALE, "scales above 0, at most 16")
