"""Depth files of earlier versions of the pipeline: each map brought to 0-1 by its own minimum and maximum.

They hold depth, 0 the nearest and 1 the farthest pixel of the image, not inverse depth: the published script
normalised SPIdepth's metric output so. The unit is lost; an affine map gives a plausible one back. Whatever
it is, another min-max normalisation gives the same numbers again.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.files import read_npy

log = logging.getLogger(__name__)

NEAREST, FARTHEST = 5.0, 80.0
"""Metres of 0 and 1. A camera 1.2 m above the road, as of Cityscapes, sees it from 5 m on; 80 m is the
farthest depth of the published network."""
SAMPLE = 8
"""Files of a folder that are looked at to tell depth from inverse depth."""
UPPER, LOWER = (0.1, 0.35), (0.5, 0.75)
"""Rows, in shares of the height, mostly far and mostly near in a street; the bonnet is left out."""


def is_normalised(depth: np.ndarray) -> bool:
    """Return whether a map is min-max normalised: its least value is 0, its largest at most 1 and above 0."""
    return bool(depth.size) and bool(depth.min() == 0 < depth.max() <= 1)


def to_metres(path: Path, depth: np.ndarray) -> np.ndarray:
    """Bring the (H, W) float32 map of a normalised file to NEAREST-FARTHEST metres; the log says so once.

    Raises:
        UserError: the files of its folder look like inverse depth.
    """
    if looks_inverse(path.parent):
        raise UserError(
            f"{path.parent}: 0-1 values, high near the camera, so inverse depth; store depth instead, "
            "e.g. 1 / (value + 0.05)"
        )
    _announce(path.parent.parent)
    return (NEAREST + (FARTHEST - NEAREST) * depth).astype(np.float32)


@cache
def looks_inverse(folder: Path) -> bool:
    """Return whether most of some normalised maps in a folder are lower above than on the road."""
    files = sorted(folder.glob("*.npy"))
    some = [files[index] for index in np.linspace(0, len(files) - 1, min(SAMPLE, len(files))).astype(int)]
    votes = [
        np.sign(_level(depth, UPPER) - _level(depth, LOWER))
        for depth in (read_npy(file, ndim=2).astype(np.float32) for file in some)
        if is_normalised(depth)
    ]
    return sum(votes) < 0


def _level(depth: np.ndarray, rows: tuple[float, float]) -> float:
    top, bottom = (round(share * len(depth)) for share in rows)
    return float(np.median(depth[top : max(bottom, top + 1)]))


@cache
def _announce(folder: Path) -> None:
    log.warning(
        "%s: min-max normalised depth (0 near, 1 far), read as %g-%g m; its unit is not known",
        folder,
        NEAREST,
        FARTHEST,
    )
