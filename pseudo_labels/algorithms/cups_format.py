"""The flat training format of CUPS: its files and the statistics of its classes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cups.io.checkpoint import write_file
from cups.io.file_names import ALL_PIXELS, INSIDE_INSTANCES, INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.ops.components import majority_classes
from cups.ops.runs import runs_of
from pseudo_labels.inputs.labels import read_pair
from pseudo_labels.steps.frames import Folder, Frame

STATISTICS_FILE = "pseudo_classes_split_1.pt"
FORMAT_FILE = "format.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FlatFolder(Folder):
    """A folder without sub-folders: the training format."""

    def path(self, frame: Frame) -> Path:
        """File of a frame."""
        return self.directory / f"{frame.flat}{self.suffix}"


@dataclass(frozen=True)
class Statistics:
    """Pixels per pseudo-class, all and inside instances, and instances per pseudo-class; (K,) int64 each."""

    all_pixels: np.ndarray
    inside: np.ndarray
    instances: np.ndarray

    def __add__(self, other: Statistics) -> Statistics:
        """Sum of two sets of frames."""
        return Statistics(
            self.all_pixels + other.all_pixels, self.inside + other.inside, self.instances + other.instances
        )


def statistics_of(semantic: np.ndarray, instance: np.ndarray, num_classes: int) -> Statistics:
    """Count one frame; void is left out.

    Args:
        semantic: (H, W) uniform inside each instance.
        instance: (H, W), 0 = none.
    """
    # Slot `num_classes` gathers void and is cut off.
    size = max(num_classes + 1, int(np.iinfo(semantic.dtype).max) + 1)
    (kinds, ids), length = runs_of(semantic, instance)

    def pixels(chosen: np.ndarray) -> np.ndarray:
        weights = None if length is None else length[chosen]
        return np.bincount(kinds[chosen], weights, minlength=size)[:num_classes].astype(np.int64)

    counted, inside = pixels(np.ones(len(ids), dtype=bool)), pixels(ids > 0)
    present = np.flatnonzero(np.bincount(ids)[1:]) + 1
    voted = majority_classes(kinds, ids, num_classes, num_classes, weights=length)[present]
    instances = np.bincount(voted, minlength=num_classes + 1)[:num_classes]
    return Statistics(counted, inside, instances)


def statistics_on_disk(folder: Path, num_classes: int, workers: int = 1) -> Statistics:
    """Sum over every frame in the folder, read as the integers they are.

    From the files rather than from what this run wrote: a resumed or sharded run writes only a part.
    """

    def count(path: Path) -> Statistics:
        instance = path.with_name(path.name[: -len(SEMANTIC_SUFFIX)] + INSTANCE_SUFFIX)
        return statistics_of(*read_pair(path, instance, num_classes), num_classes)

    files = sorted(folder.glob(f"*{SEMANTIC_SUFFIX}"))
    zeros = np.zeros(num_classes, dtype=np.int64)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        return sum(pool.map(count, files), Statistics(zeros, zeros, zeros))


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write the `.pt` file under upstream's keys, atomically."""
    content = {
        ALL_PIXELS: torch.from_numpy(statistics.all_pixels).float(),
        INSIDE_INSTANCES: torch.from_numpy(statistics.inside).float(),
        "distribution per object proposal": torch.from_numpy(statistics.instances).float(),
    }
    write_file(path, content)
