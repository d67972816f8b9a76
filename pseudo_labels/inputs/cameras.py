"""Camera files of Cityscapes: `camera/{split}/{city}/{stem}_camera.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.files import read_json

LENGTHS = frozenset(("fx", "fy", "baseline"))
"""Values that must be above 0: focal lengths in pixels, stereo baseline in metres."""


@dataclass(frozen=True)
class Camera:
    """Focal length in pixels and stereo baseline in metres."""

    focal: float
    baseline: float


def read_values(path: Path, part: str, *names: str) -> list[float]:
    """Read numbers of one part ("intrinsic" or "extrinsic") of a camera file.

    Raises:
        UserError: missing file, invalid JSON, missing or impossible values.
    """
    content = read_json(path, "unpack the camera package beside leftImg8bit")
    try:
        values = {name: float(content[part][name]) for name in names}
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: holds no {part} {', '.join(names)}; unpack the camera package again"
        ) from None
    for name, value in values.items():
        if not np.isfinite(value) or (name in LENGTHS and value <= 0):
            raise UserError(f"{path}: {part} {name} is {value}, must be positive; unpack it again")
    return list(values.values())


def read_intrinsics(path: Path) -> np.ndarray:
    """Read the (3, 3) float64 camera matrix, in pixels.

    Raises:
        UserError: as `read_values`.
    """
    fx, fy, u0, v0 = read_values(path, "intrinsic", "fx", "fy", "u0", "v0")
    return np.array([[fx, 0, u0], [0, fy, v0], [0, 0, 1]])


def read_camera(path: Path) -> Camera:
    """Read what turns disparity into depth.

    Raises:
        UserError: as `read_values`.
    """
    return Camera(*read_values(path, "intrinsic", "fx"), *read_values(path, "extrinsic", "baseline"))
