"""Runs: stretches of pixels, row after row, in which maps of ids stay the same.

Neighbours mostly agree, so that what is counted takes a look at each run instead of each pixel.
"""

from __future__ import annotations

import numpy as np

PIXELS_OF_A_RUN = 6
"""Runs that are shorter on average cost more than their pixels, measured."""


def changes(*maps: np.ndarray) -> np.ndarray:
    """Return (N - 1,) bool, whether one of the (N,) maps changes after a pixel."""
    changed = maps[0][1:] != maps[0][:-1]
    for values in maps[1:]:
        changed |= values[1:] != values[:-1]
    return changed


def first_pixels(changed: np.ndarray) -> np.ndarray:
    """Return the first pixel of each run, (R,) int64 and rising, of what `changes` returns."""
    place = np.flatnonzero(changed)
    place += 1
    return np.concatenate(([0], place))


def lengths(start: np.ndarray, pixels: int) -> np.ndarray:
    """Return the pixels of each run, (R,) int64, of those that begin at `start`."""
    return np.diff(start, append=pixels)


def is_worth_it(runs: int, pixels: int) -> bool:
    """Whether so few runs cost less than their pixels."""
    return runs * PIXELS_OF_A_RUN < pixels


def runs_of(*maps: np.ndarray) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Return the values of maps (any shape, the same) where none of them changes, and the pixels of each run.

    Noisy maps are returned pixel by pixel, without lengths.
    """
    flat = [np.ascontiguousarray(values).reshape(-1) for values in maps]
    changed = changes(*flat)
    if not is_worth_it(int(np.count_nonzero(changed)), flat[0].size):
        return flat, None
    start = first_pixels(changed)
    return [values[start] for values in flat], lengths(start, flat[0].size)
