"""Overlap tables of many ways to split instances, from one reading of each frame.

All configurations share what is theirs alike: the maps, the strength of depth edges, the components of a
threshold (each least area only filters them), and everything outside thing regions. What a frame adds to the
scores is exactly what evaluating its written instances would add.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cups.data.cityscapes import ground_truth_paths, read_panoptic_target
from cups.data.pseudo_label_dataset import align_labels
from cups.io.files import atomic_write, read_npz
from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.protocol import VoidRule
from cups.ops.components import majority_classes
from cups.ops.matching import hungarian_assignment
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import VOID, ClassSet, class_set, void_value
from pseudo_labels.algorithms.instance_splitting import splits_of
from pseudo_labels.inputs.labels import check_aspect, read_depth, read_semantic, thing_regions
from pseudo_labels.scoring.semantic import count_pixels
from pseudo_labels.settings.groups import Cutting
from pseudo_labels.steps.frames import Folder, Frame


@dataclass(frozen=True)
class Configuration:
    """One way to split: `grad_threshold` (step of depth; None: no depth) and `min_area` (512-row pixels)."""

    grad_threshold: float | None
    min_area: int

    @property
    def name(self) -> str:
        """What reports call it."""
        split = "components" if self.grad_threshold is None else f"depth step {self.grad_threshold:g}"
        return f"{split}, area {self.min_area}"


@dataclass(frozen=True)
class Target:
    """Ground truth of one frame as segments.

    Attributes:
        segment: (H, W) int64, number of each pixel's segment.
        category, instance: (T,) int64 of each segment.
    """

    segment: np.ndarray
    category: np.ndarray
    instance: np.ndarray

    @classmethod
    def of(cls, panoptic: PanopticMap) -> Target:
        """Number the segments of a map."""
        panoptic = panoptic.merged()
        return cls(panoptic.ids.astype(np.int64), panoptic.category, panoptic.instance)

    def joint(self, pred: np.ndarray, segment: np.ndarray, count: int) -> np.ndarray:
        """Return (count, T) pixels that each prediction shares with each segment; pred, segment: (N,) ids."""
        key = pred.astype(np.int64) * len(self.category) + segment
        size = count * len(self.category)
        return np.bincount(key, minlength=size).reshape(count, len(self.category))

    def rows(self, category: np.ndarray, instance: np.ndarray, joint: np.ndarray) -> np.ndarray:
        """Return the (M, 5) rows of an overlap table.

        category, instance: (P,) of predicted segments; joint: (P, T) pixels that both share.
        """
        pred, target = np.nonzero(joint)
        columns = (
            category[pred],
            instance[pred],
            self.category[target],
            self.instance[target],
            joint[pred, target],
        )
        return np.stack(columns, axis=1).astype(np.int32)


def split_all(
    regions: np.ndarray,
    depth: np.ndarray | None,
    configurations: Sequence[Configuration],
    settings: Cutting,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index of the configuration, (H, W) uint16 instances), grouped by threshold.

    The instances are those of `depth_guided_instances` with the configuration's threshold and least area.

    Args:
        regions: (H, W), 0 = no thing (`thing_regions`).
        depth: (h, w) float, positive; None if no configuration needs it.
    """
    thresholds = tuple(dict.fromkeys(configuration.grad_threshold for configuration in configurations))
    for threshold, keep in zip(thresholds, splits_of(regions, depth, thresholds, settings), strict=True):
        for index, configuration in enumerate(configurations):
            if configuration.grad_threshold == threshold:
                yield index, keep(min_area=configuration.min_area)


def overlap_rows_of_all(
    semantic: np.ndarray,
    depth: np.ndarray | None,
    target: PanopticMap,
    configurations: Sequence[Configuration],
    things: Sequence[int],
    settings: Cutting,
    num_classes: int,
) -> list[np.ndarray]:
    """Return the overlap rows of each configuration: (M, 5) int32 each, see `cups.metrics.overlap`.

    An instance takes the majority class of its thing pixels; what no instance takes of the thing regions is
    void. All other pixels keep their class in every configuration: they are counted once, and where depth
    proposed an object beyond the thing regions, its pixels are taken off again.

    Args:
        semantic: (h, w) pseudo-classes.
        depth: see `split_all`.
        target: ground truth, void as in `void_value(num_classes)`.
        things: thing classes.
        settings: what all configurations share.
    """
    void, size = void_value(num_classes), target.shape
    truth = Target.of(target)
    regions = thing_regions(semantic, things, merged=settings.proposals != "classes")
    pixels = torch.arange(semantic.size).reshape(semantic.shape)
    place = align_labels(pixels, size, size).numpy().ravel()
    in_thing, segment = regions.ravel()[place] > 0, truth.segment.ravel()
    thing_segment, thing_place = segment[in_thing], place[in_thing]
    stuff_segment, stuff_place = segment[~in_thing], place[~in_thing]
    stuff_class = semantic.ravel()[stuff_place]
    stuff = truth.joint(stuff_class, stuff_segment, void + 1)
    every_class, no_instance = np.arange(void + 1), np.zeros(void + 1, dtype=np.int64)
    shared = truth.rows(every_class, no_instance, stuff)
    inside = np.flatnonzero(regions)
    classes = semantic.ravel()[inside]
    rows: list[np.ndarray] = [shared] * len(configurations)
    for index, instances in split_all(regions, depth, configurations, settings):
        labels, others = instances.ravel(), shared
        category = majority_classes(classes, labels[inside], num_classes, void, things)
        joint = truth.joint(labels[thing_place], thing_segment, len(category))
        if settings.proposals == "objects":
            covered = np.flatnonzero(labels[stuff_place])
            beyond = stuff_segment[covered]
            joint += truth.joint(labels[stuff_place[covered]], beyond, len(category))
            left = stuff - truth.joint(stuff_class[covered], beyond, void + 1)
            others = truth.rows(every_class, no_instance, left)
        rows[index] = np.concatenate((others, truth.rows(category, np.arange(len(category)), joint)))
    return rows


@dataclass(frozen=True)
class FrameTables:
    """What a frame adds: overlap rows of each configuration, and (K + 1, C) pixels of the semantics."""

    rows: list[np.ndarray]
    counts: np.ndarray

    def write(self, path: Path) -> None:
        """Write one .npz file, atomically."""
        rows, lengths = np.concatenate(self.rows), [len(rows) for rows in self.rows]

        def save(temporary: Path) -> None:
            np.savez_compressed(temporary, rows=rows, lengths=lengths, counts=self.counts)

        atomic_write(path, save)

    @classmethod
    def read(cls, path: Path) -> FrameTables:
        """Read what `write` wrote.

        Raises:
            UserError: missing or damaged file.
        """
        stored = read_npz(path, ["rows", "lengths", "counts"])
        return cls(np.split(stored["rows"], np.cumsum(stored["lengths"])[:-1]), stored["counts"])


@dataclass(frozen=True)
class SweepFrame:
    """Picklable `process` of the sweep: writes the tables of one frame."""

    root: Path
    semantics: Folder
    depths: Folder
    output: Folder
    configurations: tuple[Configuration, ...]
    things: tuple[int, ...]
    settings: Cutting
    num_clusters: int
    num_classes: int

    def __call__(self, frame: Frame) -> None:
        """Read a frame once and count every configuration."""
        classes, void = class_set(self.num_classes), void_value(self.num_clusters)
        split, city = frame.relative.parts
        target = read_panoptic_target(*ground_truth_paths(self.root, split, city, frame.stem), classes)
        target = target.with_void(VOID, void)
        path = self.semantics.path(frame)
        semantic = read_semantic(path, self.num_clusters)
        size = target.shape
        aligned = align_labels(torch.from_numpy(semantic.astype(np.int64)), size, size, str(path)).numpy()
        depth = read_depth(self.depths.path(frame))
        check_aspect(self.depths.path(frame), depth.shape, semantic.shape)
        counts = count_pixels(aligned, target.categories, self.num_clusters, classes.num_classes, void)
        rows = overlap_rows_of_all(
            semantic, depth, target, self.configurations, self.things, self.settings, self.num_clusters
        )
        FrameTables(rows, counts).write(self.output.path(frame))


def shared_matching(counts: np.ndarray, things: Sequence[int], classes: ClassSet) -> np.ndarray:
    """Match pseudo-classes to classes from the semantics alone, things with things and stuff with stuff.

    No configuration takes part, so all are scored under the same names and differ by their instances only.

    Args:
        counts: (K + 1, C) pixels of the stored semantic maps, summed over all frames; row K is void.
        things: thing pseudo-classes.

    Returns:
        (K,) class of each pseudo-class, -1 for none.
    """
    stuffs = [index for index in range(len(counts) - 1) if index not in set(things)]
    return hungarian_assignment(counts[:-1], [(things, classes.things), (stuffs, classes.stuffs)])


def score_tables(
    tables: Sequence[FrameTables], things: Sequence[int], classes: ClassSet
) -> tuple[np.ndarray, list[dict[VoidRule, dict[str, torch.Tensor]]]]:
    """Return the shared matching (K,), and the scores of each configuration under each void rule."""
    counts = np.sum([table.counts for table in tables], axis=0)
    matching, void = shared_matching(counts, things, classes), void_value(len(counts) - 1)
    scores = []
    for index in range(len(tables[0].rows)):
        metric = PanopticQualitySemanticMatching(
            classes.things, classes.stuffs, len(counts) - 1, classes_mask=classes.evaluated, void=void
        )
        for table in tables:
            metric.update_rows(table.rows[index])
        scores.append(metric.compute_all(matching))
    return matching, scores
