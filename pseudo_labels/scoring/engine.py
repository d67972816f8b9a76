"""One engine for all evaluations of pseudo-labels: readers of their formats, one pass, both void rules."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from cups.data.cityscapes import (
    GroundTruthFrame,
    check_ground_truth,
    list_ground_truth_frames,
    read_panoptic_target,
)
from cups.data.pseudo_label_dataset import align_labels, load_statistics
from cups.errors import UserError
from cups.io.children import ignore_stop_signals
from cups.io.file_names import IMAGE_MARK, INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.label_split import label_split
from cups.labels.coco_sets import CocoSet
from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.protocol import Matching, Protocol, VoidRule
from cups.metrics.scored_rows import ScoredRows
from cups.ops.panoptic import to_panoptic
from cups.taxonomy import VOID, ClassSet, class_set, void_value
from pseudo_labels.algorithms.cups_format import FORMAT_FILE
from pseudo_labels.inputs.instances import ENDINGS
from pseudo_labels.inputs.labels import read_pair
from pseudo_labels.scoring.semantic import count_pixels
from pseudo_labels.steps.frames import first_file

log = logging.getLogger(__name__)

PANOPTIC_ENDS = ("_gtFine_panoptic", "_panoptic", "_pred_panoptic")
"""Ends of names in panoptic sets of Cityscapes by other tools."""
Pair = tuple[np.ndarray, np.ndarray]
"""Semantic and instance map, both (H, W)."""


def city_path(folder: Path, frame: GroundTruthFrame, split: str, endings: Sequence[str] = (".png",)) -> Path:
    """Return the file of a frame in a Stage-1 folder."""
    return first_file(folder / split / frame.image.parent.name, frame.stem, endings)


@dataclass(frozen=True)
class FolderLabels:
    """A semantic and an instance folder of Stage 1."""

    semantics: Path
    instances: Path
    split: str
    num_classes: int

    def __call__(self, frame: GroundTruthFrame) -> Pair:
        """Read one frame."""
        semantic = city_path(self.semantics, frame, self.split)
        instance = city_path(self.instances, frame, self.split, ENDINGS)
        return read_pair(semantic, instance, self.num_classes)


@dataclass(frozen=True)
class PanopticLabels:
    """A COCO panoptic set, of `generate_panoptic_pseudolabels.py` or of any other tool."""

    labels: CocoSet

    def __call__(self, frame: GroundTruthFrame) -> Pair:
        """Read one frame; classes are positions among the categories of the set.

        Raises:
            UserError: a frame that the set does not hold.
        """
        city, stem = frame.image.parent.name, frame.stem
        split = frame.image.parent.parent.name
        names = (f"{split}/{city}/{stem}", f"{city}/{stem}", stem)
        ends = ("", IMAGE_MARK, *PANOPTIC_ENDS)
        name = next((n + end for n in names for end in ends if n + end in self.labels.annotations), None)
        if name is None:
            raise UserError(f"{self.labels.path}: lists no {names[0]}.png; write the set of this split")
        panoptic = self.labels.read(name, void_value(self.num_classes))
        return panoptic.categories, panoptic.instances

    @property
    def num_classes(self) -> int:
        """Number of categories."""
        return len(self.labels.categories)


@dataclass(frozen=True)
class CupsLabels:
    """A flat folder in the CUPS format."""

    folder: Path
    num_classes: int

    def __call__(self, frame: GroundTruthFrame) -> Pair:
        """Read one frame."""
        semantic, instance = (
            self.folder / f"{frame.stem}{end}" for end in (SEMANTIC_SUFFIX, INSTANCE_SUFFIX)
        )
        return read_pair(semantic, instance, self.num_classes)


Reader = Callable[[GroundTruthFrame], Pair]


def read_cups_classes(folder: Path, threshold: float | None = None) -> tuple[int, tuple[int, ...]]:
    """Return number of classes and thing classes of a CUPS folder, as training takes them.

    threshold: see `cups.label_split.label_split`.

    Raises:
        UserError: missing folder or statistics.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; run pseudo_labels/convert_to_cups_format.py")
    if not (folder / FORMAT_FILE).is_file():
        log.warning("%s: no %s, sizes and classes come from the statistics alone", folder, FORMAT_FILE)
    all_pixels, inside = load_statistics(folder)
    return len(all_pixels), label_split(folder, all_pixels, inside, threshold).things


class EvaluationFrames(Dataset[dict[str, Any]]):
    """Pseudo-labels beside ground truth, both at the size of the ground truth.

    Items: `{"prediction": PanopticMap, "target": PanopticMap, "name": str}`, and with `semantics` the
    `counts` (K + 1, C) of the semantic map as it is stored.
    """

    def __init__(
        self,
        frames: Sequence[GroundTruthFrame],
        read: Reader,
        classes: ClassSet,
        things: Sequence[int],
        num_classes: int,
        semantics: bool = False,
    ) -> None:
        self.frames = list(frames)
        self.read = read
        self.classes = classes
        self.things = tuple(things)
        self.num_classes = num_classes
        self.semantics = semantics

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict[str, Any]:
        frame, void = self.frames[index], void_value(self.num_classes)
        target = read_panoptic_target(frame.label_ids, frame.instance_ids, self.classes).with_void(VOID, void)
        pair = self.read(frame)

        def aligned(ids: np.ndarray) -> np.ndarray:
            size = target.shape
            return align_labels(torch.from_numpy(ids.astype(np.int64)), size, size, frame.stem).numpy()

        panoptic = to_panoptic(*pair, self.things, self.num_classes)
        prediction = panoptic.with_ids(aligned(panoptic.ids).astype(panoptic.ids.dtype))
        item: dict[str, Any] = {"prediction": prediction, "target": target, "name": frame.stem}
        if self.semantics:
            maps = (aligned(pair[0]), target.categories)
            counts = count_pixels(*maps, self.num_classes, self.classes.num_classes, void)
            item["counts"] = torch.from_numpy(counts)
        return item


@dataclass(frozen=True)
class Evaluation:
    """Scores of one set of pseudo-labels.

    Attributes:
        scores: `scores[void rule][key]`, keys as in the metric's `compute`.
        rows: what they were made of, image by image.
        counts: (K + 1, C) int64 pixels of pseudo-class and class, row K void; None unless asked for.
    """

    protocol: Protocol
    scores: dict[VoidRule, dict[str, torch.Tensor]]
    rows: ScoredRows
    counts: np.ndarray | None = None


def evaluate(
    frames: Sequence[GroundTruthFrame],
    read: Reader,
    *,
    classes: ClassSet,
    num_clusters: int,
    things: Sequence[int],
    matching: Matching = "separate",
    workers: int = 0,
    semantics: bool = False,
    assignment: np.ndarray | None = None,
) -> Evaluation:
    """Score pseudo-labels against ground truth, in one pass, under both void rules.

    Args:
        frames: with ground truth.
        read: gives semantic and instance map of a frame.
        num_clusters: pseudo-classes K.
        things: those that are things.
        matching: "separate" matches things with things and stuff with stuff only.
        workers: reading processes.
        semantics: count pixels of pseudo-classes against classes in the same pass.
        assignment: (K,) class of each pseudo-class, -1 for none, instead of the Hungarian matching.
    """
    stuffs = [index for index in range(num_clusters) if index not in set(things)]
    apart = matching == "separate"
    metric = PanopticQualitySemanticMatching(
        classes.things,
        classes.stuffs,
        num_clusters,
        things_prototype=things if apart else None,
        stuffs_prototype=stuffs if apart else None,
        classes_mask=classes.evaluated,
        void=void_value(num_clusters),
    )
    data = EvaluationFrames(frames, read, classes, things, num_clusters, semantics)
    counts = np.zeros((num_clusters + 1, classes.num_classes), dtype=np.int64) if semantics else None
    names: list[str] = []
    loader = DataLoader(data, batch_size=None, num_workers=workers, worker_init_fn=ignore_stop_signals)
    for item in tqdm(loader, total=len(data), desc="evaluate", unit="img"):
        names.append(item["name"])
        metric.update([item["prediction"]], [item["target"]])
        if counts is not None:
            counts += item["counts"].numpy()
    name = f"pseudo-labels-{classes.num_classes}"
    protocol = Protocol(name, num_classes=classes.num_classes, class_file=classes.file, matching=matching)
    scores = metric.compute_all(assignment)
    return Evaluation(protocol, scores, metric.scored_rows(names, classes.names, scores), counts)


def ground_truth_frames(
    root: Path, split: str, max_images: int | None, classes: ClassSet | None = None
) -> list[GroundTruthFrame]:
    """Return the frames with ground truth, the first `max_images` of them.

    classes: that the ground truth names; None: those of Cityscapes.

    Raises:
        UserError: no such frames, ground truth of another numbering, or void everywhere.
    """
    frames = list_ground_truth_frames(root, split)[:max_images]
    check_ground_truth(frames, classes or class_set(27))
    return frames
