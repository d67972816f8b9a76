"""One row of the configuration: a default, the values that are allowed, and what the key means."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """The values that a key takes.

    Attributes:
        allowed: them, in a few words.
        accepts: whether a value is one of them.
        demand: what a refused value is told; None makes it of `allowed`.
        text: whether values are text, so that a folder named 2026 is none of the numbers.
    """

    allowed: str
    accepts: Callable[[Any], bool]
    demand: str | None = None
    text: bool = False

    def refusal(self, key: str, value: Any) -> str | None:
        """Return what is wrong with a value, None for an allowed one."""
        if self.accepts(value):
            return None
        return f"{key} is {value!r}; {self.demand or f'it must be {self.allowed}'}"


@dataclass(frozen=True)
class Key:
    """A key of the configuration.

    Attributes:
        default: its value if no layer sets it; the type of the default is the type of the key.
        check: the values that it takes.
        meaning: one sentence.
    """

    default: Any
    check: Check
    meaning: str


def is_number(value: Any) -> bool:
    """Return whether a value is a number (True and False are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number of at least 1."""
    return isinstance(value, int) and is_number(value) and value >= 1


def is_size(value: Any, smallest: int = 1) -> bool:
    """Return whether a value is (height, width) in whole pixels, each at least `smallest`."""
    pair = isinstance(value, list | tuple) and len(value) == 2
    return pair and all(is_count(side) and side >= smallest for side in value)


TEXT = Check("text", lambda value: isinstance(value, str), text=True)
SWITCH = Check("True, False", lambda value: isinstance(value, bool))
POSITIVE = Check("above 0", lambda value: is_number(value) and value > 0)
NOT_NEGATIVE = Check("0 or more", lambda value: is_number(value) and value >= 0)
FRACTION = Check("0-1", lambda value: is_number(value) and 0 <= value <= 1, "it must lie in 0-1")
COUNT = Check("a whole number, 1 or more", is_count)
SIZE = Check("(height, width)", is_size)
CROP = Check("(height, width), each 32 or more", lambda value: is_size(value, 32))
SCALES = Check(
    "scales above 0",
    lambda value: bool(len(value)) and all(is_number(scale) and scale > 0 for scale in value),
)


def choice(values: Iterable[Any]) -> Check:
    """Return the check of a key that takes one of some values."""
    values = tuple(values)
    return Check(
        ", ".join(map(str, values)), values.__contains__, f"choose from {', '.join(map(str, values))}"
    )


def optional(check: Check, without: str = "None") -> Check:
    """Return the check of a key that may also be None.

    Args:
        check: of the other values.
        without: None in a few words, e.g. "None (as in Stage 2)".
    """
    demand = "it must be a number above 0, or None" if check is POSITIVE else None
    return Check(
        f"{check.allowed}, or {without}",
        lambda value: value is None or check.accepts(value),
        demand,
        text=check.text,
    )
