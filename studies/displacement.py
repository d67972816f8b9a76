"""Labels displaced as a loader does that scales images but crops both."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cups.errors import UserError
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import read_ids, write_png
from cups.ops.resize import center_crop_or_pad, scaled_size


def displaced(labels: np.ndarray, scale: float) -> np.ndarray:
    """Return the window of unscaled labels that covers an image scaled by `scale` (0-1).

    labels: (H, W) ids at the size of the image -> (round(scale H), round(scale W)) of the same type.
    """
    size = scaled_size((labels.shape[0], labels.shape[1]), scale)
    return center_crop_or_pad(torch.from_numpy(labels), size, 0).numpy()


def label_files(folder: Path) -> list[Path]:
    """Return the label files of a folder in the CUPS format, sorted.

    Raises:
        UserError: there are none.
    """
    files = sorted(
        path for suffix in (SEMANTIC_SUFFIX, INSTANCE_SUFFIX) for path in folder.glob(f"*{suffix}")
    )
    if not files:
        raise UserError(f"{folder}: holds no *{SEMANTIC_SUFFIX}; run convert_to_cups_format.py")
    return files


def displace(source: Path, target: Path, scale: float) -> None:
    """Write the labels of a folder in the CUPS format displaced into another, with their statistics."""
    for path in tqdm(label_files(source), desc="displace", unit="file"):
        write_png(target / path.name, displaced(read_ids(path), scale))
    for statistics in source.glob("*.pt"):
        shutil.copy(statistics, target)
