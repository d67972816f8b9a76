"""Patch features of a frozen network on disk, read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.files import read_npy
from pseudo_labels.steps.folders import FEATURES_PREFIX
from pseudo_labels.steps.frames import Folder, Frame


def feature_folder(root: Path, backbone: str) -> Folder:
    """Return the folder that holds the features of a backbone, one (Hp, Wp, D) float16 array per frame."""
    return Folder(root, FEATURES_PREFIX + backbone, ".npy")


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
