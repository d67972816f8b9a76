"""One row of the configuration: a default, the values that are allowed, and what the key means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cups.allowed import Check


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
