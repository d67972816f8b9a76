"""Files of centroids: our `centroids.npz`, and `kmeans_centroids.npz` of earlier versions of the pipeline."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.files import read_npz

log = logging.getLogger(__name__)
NAMES = "cluster_to_class"
"""Of earlier versions: the trainId of each cluster, by majority vote against ground truth."""


def read_centroids(path: Path, k: int) -> np.ndarray:
    """Read the centroids of a clustering that was fitted elsewhere: (k, D) float32.

    Names that lie beside them are not used, for they came from ground truth (`stored_names` reads them).

    Raises:
        UserError: missing or damaged file, or another number of clusters than `k`.
    """
    stored = read_npz(path, ["centroids"], [NAMES])
    centroids = stored["centroids"]
    if centroids.ndim != 2 or not np.issubdtype(centroids.dtype, np.floating) or not centroids.size:
        raise UserError(f"{path}: centroids of shape {centroids.shape}, expected (clusters, channels)")
    if not np.isfinite(centroids).all():
        raise UserError(f"{path}: holds centroids that are not finite; fit them again")
    if len(centroids) != k:
        raise UserError(f"`k` {k}: {path} holds {len(centroids)} clusters; give `k` {len(centroids)}")
    if NAMES in stored:
        log.info("%s: its names of clusters came from ground truth; they are not used", path)
    return centroids.astype(np.float32)


def stored_names(path: Path) -> np.ndarray | None:
    """Return the trainId that a file of centroids gives to each cluster, (k,) uint8, None if it has no names.

    They came from ground truth, whatever provenance says: use them where a user asked for such names.

    Raises:
        UserError: missing or damaged file, or names that do not fit its clusters.
    """
    stored = read_npz(path, ["centroids"], [NAMES])
    if NAMES not in stored:
        return None
    names = stored[NAMES]
    if names.shape != (len(stored["centroids"]),) or not np.issubdtype(names.dtype, np.integer):
        raise UserError(f"{path}: {NAMES} of shape {names.shape} does not fit its clusters")
    return names.astype(np.uint8)
