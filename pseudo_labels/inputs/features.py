"""Patch features of a frozen network: read back from disk, and measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from cups.backbones.names import folder_name
from cups.errors import UserError
from cups.io.files import npy_shape, read_npy
from pseudo_labels.steps.folders import FEATURES_PREFIX
from pseudo_labels.steps.frames import Folder, Frame

if TYPE_CHECKING:
    from torch import Tensor

STATISTICS_FRAMES = 100
GUIDE_CHANNELS = 16


def feature_folder(root: Path, backbone: str) -> Folder:
    """Return the folder that holds the features of a backbone, one (Hp, Wp, D) float16 array per frame."""
    return Folder(root, FEATURES_PREFIX + folder_name(backbone), ".npy")


def read_features(folder: Folder, frame: Frame) -> np.ndarray:
    """Read the features of a frame: (Hp, Wp, D) float32.

    Raises:
        UserError: missing or unreadable file, or not a non-empty float array of three dimensions.
    """
    features = read_npy(folder.path(frame), ndim=3)
    if not features.size or not np.issubdtype(features.dtype, np.floating):
        raise UserError(
            f"{folder.path(frame)}: {features.dtype} array of shape {features.shape}, expected float "
            "(rows, columns, channels); extract the features again"
        )
    return features.astype(np.float32)


def count_cells(folder: Folder, frame: Frame) -> int:
    """Return the number of feature vectors of a frame, from the header of its file.

    Raises:
        UserError: as `read_features`.
    """
    shape = npy_shape(folder.path(frame))
    if shape is None or len(shape) != 3:
        shape = read_features(folder, frame).shape  # it knows what is wrong
    return int(shape[0] * shape[1])


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Per-channel mean and deviation (D,), and the strongest directions (P, D) of standardised features."""

    mean: Tensor
    std: Tensor
    basis: Tensor


def feature_statistics(frames: Sequence[Frame], read: Callable[[Frame], np.ndarray]) -> FeatureStatistics:
    """Measure features over evenly chosen frames.

    The basis is scaled so that two tokens drawn at random lie at a root mean square distance of about 1.

    Args:
        read: frame -> (h, w, D) features.

    Raises:
        UserError: unreadable files, or numbers of channels that differ.
    """
    import torch

    total: np.ndarray | None = None
    square, count = np.zeros((0, 0)), 0
    for frame in tqdm(frames[:: -(-len(frames) // STATISTICS_FRAMES)], desc="feature statistics", unit="img"):
        tokens = read(frame).astype(np.float64)
        tokens = tokens.reshape(-1, tokens.shape[2])
        if total is None:
            total, square = np.zeros(tokens.shape[1]), np.zeros((tokens.shape[1],) * 2)
        elif tokens.shape[1] != len(total):
            raise UserError(
                f"{frame.name}: features of {tokens.shape[1]} channels, others have {len(total)}; "
                "extract the features again"
            )
        total, square, count = total + tokens.sum(0), square + tokens.T @ tokens, count + len(tokens)
    assert total is not None
    mean = total / count
    covariance = square / count - np.outer(mean, mean)
    std = np.sqrt(np.maximum(np.diag(covariance), 1e-8))
    values, vectors = np.linalg.eigh(covariance / np.outer(std, std))
    kept = slice(-GUIDE_CHANNELS, None)
    # Two independent draws differ by twice the variance.
    scale = 1 / math.sqrt(max(2 * values[kept].sum(), 1e-8))
    basis = scale * vectors[:, kept].T
    return FeatureStatistics(*(torch.tensor(array, dtype=torch.float32) for array in (mean, std, basis)))
