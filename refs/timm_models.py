"""Networks of the library timm, imported without W&B.

timm imports `wandb` for its own training scripts if it is installed, and `wandb` makes two temporary folders
as it is imported. Processes that end without clean-up (workers, ranks of a training) leave them behind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Let a module seem not installed, unless it is imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def create_model(name: str, **options: Any) -> Any:
    """Build a network by its name in timm; `options` are those of `timm.create_model`."""
    with _hidden("wandb"):
        import timm  # seconds, for which those who need no such network do not wait
    return timm.create_model(name, **options)
