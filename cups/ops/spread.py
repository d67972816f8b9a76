"""Places that are spread evenly over a list."""

from __future__ import annotations

import numpy as np


def spread_places(length: int, most: int) -> list[int]:
    """Return at most `most` places of a list, evenly spread, with both ends (one place: the first)."""
    return np.linspace(0, length - 1, min(most, length)).round().astype(int).tolist()
