"""Counts how often code makes the processor wait for a GPU, and where.

On a GPU torch itself warns of each wait. On a CPU nothing waits; there the operators are counted that would:
those whose result is a number for Python, or has a size that depends on values.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
WAITS = frozenset(
    {
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "unique_dim",
        "_unique2",
        "bincount",
        "nms",
        "is_nonzero",
    }
)
"""Operators for which a GPU must be asked."""
PACKAGES = "site-packages/"
LIBRARY = "detectron2/"
"""The one library whose frames count as the place of a wait; for others, whoever calls them does."""
Places = Counter[str]


def _place(frame: FrameType | None) -> str:
    """Return "file:line" of the innermost frame of this project or of detectron2."""
    while frame is not None:
        name = frame.f_code.co_filename
        path = Path(name)
        _, installed, module = name.rpartition(PACKAGES)
        if installed and module.startswith(LIBRARY):
            return f"{module}:{frame.f_lineno}"
        if not installed and name != __file__ and path.is_relative_to(ROOT):
            return f"{path.relative_to(ROOT).as_posix()}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"


class _Asked(TorchDispatchMode):
    """Counts the operators that would make a GPU wait."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name != "index" and by_mask and args[2].numel() == 1:  # a GPU fills where the mask says
            by_mask = False
        if name in WAITS or by_mask:
            self.places[_place(sys._getframe(1))] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_syncs(device: str) -> Iterator[Places]:
    """Count the waits inside the block, each under the place that caused it."""
    places: Places = Counter()
    if device == "cpu":
        with _Asked(places):
            yield places
        return

    def seen(message: Any, *_: Any, **__: Any) -> None:
        if "synchroniz" in str(message):
            places[_place(sys._getframe(1))] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = seen
        torch.cuda.set_sync_debug_mode("warn")
        try:
            # In this thread: torch cannot tell Python of waits in the threads that run backward passes.
            with torch.autograd.set_multithreading_enabled(False):
                yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")


def sync_row(step: Callable[[], None], device: str) -> dict[str, Any]:
    """Return how many waits one call of a step causes: all, by whose code, and the most frequent places."""
    with counted_syncs(device) as places:
        step()
    ours = sum(count for place, count in places.items() if place.startswith(("cups/", "studies/")))
    theirs = sum(count for place, count in places.items() if place.startswith("detectron2/"))
    return {
        "syncs": places.total(),
        "ours": ours,
        "detectron2": theirs,
        "others": places.total() - ours - theirs,
        "places": dict(places.most_common(20)),
    }
