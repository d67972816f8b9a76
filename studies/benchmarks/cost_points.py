"""One point of a cost curve. In a process of its own, its peak of memory is that of nothing else."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from cups.io.files import write_json
from cups.metrics import PanopticQualitySemanticMatching
from cups.ops.kmeans import fit_kmeans
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import class_set, void_value
from pseudo_labels.algorithms.overclustering import shuffled_batches
from studies.benchmarks import stage1, street_maps
from studies.benchmarks.measured_code import code_of, watch_files
from studies.benchmarks.settings import Stage1Settings
from studies.measure import machine_line

Work = Callable[[int], object]
"""Works on the frame of a number."""
CLASSES = class_set(19)
DIFFERENT = 2
"""Frames that are made; the others repeat them."""
TOKENS, EPOCHS, CHANNELS = 1024, 5, 90
"""Vectors of a frame, passes over them, their length: as `generate_overclustered_semantics.py` has them."""


@dataclass(frozen=True)
class Point:
    """What is measured.

    Attributes:
        part: a name of `PARTS`.
        height, width: of a frame, pixels.
        k: clusters, or pseudo-classes.
        frames: how many are worked on.
    """

    part: str
    height: int
    width: int
    k: int
    frames: int

    @property
    def megapixels(self) -> float:
        """Pixels of a frame, in millions."""
        return self.height * self.width / 1e6

    @property
    def name(self) -> str:
        """A file name."""
        return f"{self.part.replace(' ', '_')}_{self.height}x{self.width}_k{self.k}_n{self.frames}"


@dataclass(frozen=True)
class Cost:
    """What a point costs, and what was measured.

    Attributes:
        seconds: processor time of a frame, on one core.
        memory: peak of the process, MiB.
        machine: as `machine_line`; empty in records of before.
        code: the source files that ran, and the digest of each; empty in records of before.
    """

    seconds: float
    memory: float
    machine: str = ""
    code: dict[str, str] = field(default_factory=dict)


def _settings(point: Point) -> Stage1Settings:
    return Stage1Settings(size=(point.height, point.width), k=point.k, images=DIFFERENT)


def _scenes(point: Point) -> list[stage1.Scene]:
    return [stage1.street((point.height, point.width), index, 0) for index in range(DIFFERENT)]


def metric(point: Point, _: Path) -> tuple[Work, Work]:
    """Panoptic quality of clusters against ground truth: every frame, and the matching at the end."""
    void, rng = void_value(point.k), np.random.default_rng(0)
    pairs = []
    for number in range(DIFFERENT):
        target = street_maps.street(point.height, point.width, 60, np.random.default_rng(number))
        pred = street_maps.imperfect(target, rng)
        # A segment of a class becomes one of the clusters of that class.
        spread = pred[..., 0] + CLASSES.num_classes * (pred[..., 1] % max(1, point.k // CLASSES.num_classes))
        pred[..., 0] = np.where(pred[..., 0] == street_maps.VOID, void, np.minimum(spread, point.k - 1))
        pairs.append((PanopticMap.from_pairs(pred), PanopticMap.from_pairs(_with_void(target, void))))
    scores = PanopticQualitySemanticMatching(CLASSES.things, CLASSES.stuffs, point.k, void=void)
    return lambda i: scores.update(*([part] for part in pairs[i % DIFFERENT])), lambda _: scores.compute()


def _with_void(panoptic: np.ndarray, void: int) -> np.ndarray:
    changed = panoptic.copy()
    changed[..., 0][panoptic[..., 0] == street_maps.VOID] = void
    return changed


def clustering(point: Point, _: Path) -> tuple[Work, Work]:
    """K-means on vectors of the frames, which are sampled first."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, CHANNELS)).astype(np.float32)
    samples: list[np.ndarray] = []

    def sample(_: int) -> None:
        noise = rng.normal(scale=0.5, size=(TOKENS, CHANNELS)).astype(np.float16)
        samples.append(centres[rng.integers(0, len(centres), TOKENS)].astype(np.float16) + noise)

    return sample, lambda _: fit_kmeans(shuffled_batches(samples, EPOCHS, 0), point.k)


def assignment(point: Point, _: Path) -> tuple[Work, Work | None]:
    """Clusters of the pixels of a frame from its codes."""
    scenes = _scenes(point)
    job = stage1.assignment(_settings(point), scenes)
    return lambda i: job.ours(scenes[i % DIFFERENT]), None


def instances(point: Point, _: Path) -> tuple[Work, Work | None]:
    """Objects that depth proposes."""
    scenes, job = _scenes(point), stage1.objects(_settings(point))
    return lambda i: job.ours(scenes[i % DIFFERENT]), None


def conversion(point: Point, folder: Path) -> tuple[Work, Work | None]:
    """Label files to the training format, with its statistics."""
    scenes, job = _scenes(point), stage1.splitting(_settings(point))
    convert = stage1.conversion(folder, scenes, [job.ours(scene) for scene in scenes])
    return lambda i: convert.ours(scenes[i % DIFFERENT]), None


def textons(point: Point, _: Path) -> tuple[Work, Work | None]:
    """Features without a network."""
    scenes, job = _scenes(point), stage1.textons(_settings(point))
    return lambda i: job.ours(scenes[i % DIFFERENT]), None


def prediction(point: Point, _: Path) -> tuple[Work, Work | None]:
    """Panoptic maps of the small network, at the size of the frame; large ones in tiles."""
    from cups.model import panoptic_cascade_mask_r_cnn
    from cups.model.sized import SizedInference

    torch.manual_seed(0)
    things = max(1, point.k // 6)
    network = panoptic_cascade_mask_r_cnn(
        things, point.k - things + 1, model_config="Panoptic-Cascade-Mask-R-CNN-Small.yaml"
    )
    predict, rng = SizedInference(network.eval(), None), np.random.default_rng(0)
    images = [rng.integers(0, 256, (point.height, point.width, 3), np.uint8) for _ in range(DIFFERENT)]
    return lambda i: predict([images[i % DIFFERENT]]), None


PARTS: dict[str, Callable[[Point, Path], tuple[Work, Work | None]]] = {
    "metric": metric,
    "clustering": clustering,
    "assignment": assignment,
    "instances": instances,
    "conversion": conversion,
    "textons": textons,
    "prediction": prediction,
}


def rehearsed(point: Point, folder: Path) -> tuple[Work, Work | None, set[str]]:
    """Return what a part does with a frame, and at the end, once both were done; and the files that ran."""
    work, finish = PARTS[point.part](point, folder)
    with watch_files() as files:
        work(0)
        if finish is not None:
            finish(1)
    if finish is not None:
        work, finish = PARTS[point.part](point, folder)  # without what the rehearsal gathered
    return work, finish, files


def measure(point: Point) -> Cost:
    """Work on the frames of a point, after a rehearsal that warms up and tells which code runs."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        work, finish, files = rehearsed(point, Path(folder))
        start = time.process_time()
        for index in range(point.frames):
            work(index)
        if finish is not None:
            finish(point.frames)
        seconds = (time.process_time() - start) / point.frames
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return Cost(seconds, peak, machine_line(), code_of(files))


def write_cost(point: Point, output: Path) -> None:
    """Measure a point and write its cost."""
    write_json(output, asdict(measure(point)))
