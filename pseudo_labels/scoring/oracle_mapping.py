"""The one place of Stage 1 that reads ground truth: the evaluation protocol `mapping` oracle.

Nothing else that writes labels imports this module; a test on the import graph holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cups.data.cityscapes import ground_truth_paths
from cups.errors import UserError
from cups.io.png import read_ids
from cups.taxonomy import VOID, class_set
from pseudo_labels.steps.frames import Frame
from pseudo_labels.steps.workers import run_map

GROUND_TRUTH_FOLDER = "gtFine"


@dataclass(frozen=True, eq=False)
class OracleVotes:
    """Picklable function frame -> (K, 256) int64, pixels of each cluster with each trainId of gtFine."""

    labels_of: Callable[[Frame], np.ndarray]
    num_clusters: int
    root: Path

    def __call__(self, frame: Frame) -> np.ndarray:
        """Count one frame."""
        split, city = frame.relative.parts[:2] if len(frame.relative.parts) > 1 else ("", "")
        path, _ = ground_truth_paths(self.root, split, city, frame.stem)
        clusters, truth = self.labels_of(frame), class_set(19).from_id[read_ids(path)]
        if clusters.shape != truth.shape:
            raise UserError(f"{path}: size {truth.shape}, image {clusters.shape}; unpack gtFine again")
        joint = np.bincount(clusters.ravel() * 256 + truth.ravel(), minlength=self.num_clusters * 256)
        return joint.reshape(self.num_clusters, 256)


def oracle_table(
    frames: Sequence[Frame],
    labels_of: Callable[[Frame], np.ndarray],
    num_clusters: int,
    root: Path,
    workers: int = 0,
) -> np.ndarray:
    """Return the trainId that most pixels of each cluster have in gtFine: (K,) uint8, 255 if none.

    Args:
        labels_of: frame -> (H, W) int64 cluster ids at image size.
        root: Cityscapes root.
        workers: processes that count.

    Raises:
        UserError: missing or differently sized ground truth.
    """
    votes = np.zeros((num_clusters, 256), dtype=np.int64)
    with closing(run_map(frames, OracleVotes(labels_of, num_clusters, root), workers)) as counted:
        for one in tqdm(counted, "oracle mapping", len(frames), unit="img"):
            votes += one
    votes[:, VOID] = 0
    return np.where(votes.any(axis=1), votes.argmax(axis=1), VOID).astype(np.uint8)
