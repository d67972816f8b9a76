"""The one place of Stage 1 that reads ground truth: the evaluation protocol `mapping` oracle.

Nothing else that writes labels imports this module; a test on the import graph holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cups.data.cityscapes import ground_truth_paths
from cups.errors import UserError
from cups.io.png import read_ids
from cups.taxonomy import VOID, class_set
from pseudo_labels.steps.frames import Frame

GROUND_TRUTH_FOLDER = "gtFine"


def oracle_table(
    frames: Sequence[Frame], labels_of: Callable[[Frame], np.ndarray], num_clusters: int, root: Path
) -> np.ndarray:
    """Return the trainId that most pixels of each cluster have in gtFine: (K,) uint8, 255 if none.

    Args:
        labels_of: frame -> (H, W) cluster ids at image size.
        root: Cityscapes root.

    Raises:
        UserError: missing or differently sized ground truth.
    """
    train_id = class_set(19).from_id
    votes = np.zeros((num_clusters, 256), dtype=np.int64)
    for frame in tqdm(frames, desc="oracle mapping", unit="img"):
        split, city = frame.relative.parts[:2] if len(frame.relative.parts) > 1 else ("", "")
        path, _ = ground_truth_paths(root, split, city, frame.stem)
        clusters, truth = labels_of(frame), train_id[read_ids(path)]
        if clusters.shape != truth.shape:
            raise UserError(f"{path}: size {truth.shape}, image {clusters.shape}; unpack gtFine again")
        joint = np.bincount(clusters.ravel() * 256 + truth.ravel(), minlength=num_clusters * 256)
        votes += joint.reshape(num_clusters, 256)
    votes[:, VOID] = 0
    return np.where(votes.any(axis=1), votes.argmax(axis=1), VOID).astype(np.uint8)
