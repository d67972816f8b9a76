"""Depth from the stereo disparity maps that Cityscapes publishes beside its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.png import read_ids
from pseudo_labels.inputs.cameras import Camera

DISPARITY_SCALE = 256.0
"""Cityscapes stores disparity d as round(256 d) + 1, and 0 where it is unknown (its README, "disparity")."""

SKY_ROWS = 0.6
"""Share of the image height that sky can reach down; longer unknown columns are the blind side."""


def read_disparity(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a Cityscapes disparity map: (H, W) float32 pixels, and (H, W) bool where it is known.

    Raises:
        UserError: missing, truncated or 8-bit file, or no known pixel at all.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; unpack the disparity package beside leftImg8bit")
    stored = read_ids(path)
    if stored.dtype != np.uint16:
        raise UserError(f"{path}: disparity is stored in 16 bits, this file has 8; unpack it again")
    known = stored > 0
    if not known.any():
        raise UserError(f"{path}: no pixel has a disparity; unpack it again or leave the frame out")
    return (stored.astype(np.float32) - 1) / DISPARITY_SCALE, known


def fill_unknown(disparity: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown disparities: (H, W) float32, (H, W) bool -> (H, W) float32.

    What is unknown from the top of a column down to a known pixel above `SKY_ROWS` is sky: 0. Other holes
    take the farther of the two known neighbours in their row, because they are mostly background that the
    other camera cannot see; rows without any known pixel copy the nearest known row.
    """
    height, width = disparity.shape
    run = np.where(known.any(axis=0), known.argmax(axis=0), height)
    sky = np.arange(height)[:, None] < np.where(run < SKY_ROWS * height, run, 0)
    disparity, known = np.where(sky, 0, disparity), known | sky
    columns = np.arange(width)
    left = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, columns, width)[:, ::-1], axis=1)[:, ::-1]
    from_left = np.take_along_axis(disparity, np.clip(left, 0, None), axis=1)
    from_right = np.take_along_axis(disparity, np.clip(right, None, width - 1), axis=1)
    from_left = np.where(left < 0, np.inf, from_left)
    from_right = np.where(right == width, np.inf, from_right)
    filled = np.minimum(from_left, from_right)
    rows = np.flatnonzero(known.any(axis=1))
    nearest = rows[np.abs(np.arange(len(disparity))[:, None] - rows).argmin(axis=1)]
    return filled[nearest]


def depth_from_disparity(
    disparity: np.ndarray, known: np.ndarray, camera: Camera, min_depth: float, max_depth: float
) -> np.ndarray:
    """Return (H, W) float16 metres in [min_depth, max_depth]: depth = baseline * focal / disparity."""
    filled = fill_unknown(disparity, known)
    with np.errstate(divide="ignore"):
        depth = camera.baseline * camera.focal / filled
    return np.clip(depth, min_depth, max_depth).astype(np.float16)
