"""Scores of two sets of labels on disk: predictions of any tool against ground truth of any data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from cups.errors import UserError
from cups.evaluation.results import Result, results_from_scores
from cups.evaluation.semantic import results_of_counts
from cups.io.children import ignore_stop_signals
from cups.io.file_names import IMAGE_MARK, comparable
from cups.labels.coco_sets import CocoSet, class_table, some
from cups.labels.id_schemes import (
    check_numbering,
    refuse_other_ids,
    refuse_other_instances,
    without_bare_ids,
)
from cups.labels.label_folders import IdFolder, Labels
from cups.labels.pseudo_classes import Guess, by_place
from cups.metrics import (
    ConfusionMatrix,
    PanopticQualitySemanticMatching,
    VideoQualitySemanticMatching,
    semantic_quality,
)
from cups.metrics.protocol import VOID_RULES, Matching, Protocol, VoidRule
from cups.metrics.scored_rows import ScoredRows
from cups.metrics.video_quality import frame_id
from cups.ops.matching import hungarian_assignment
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import VOID, ClassSet, void_value
from cups.video.clips import clip_places

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Truth:
    """Ground truth as classes.

    Attributes:
        labels: the files.
        classes: C classes.
        table: (K,) class of each category of a COCO set, -1 for none; None for maps of ids.
    """

    labels: Labels
    classes: ClassSet
    table: np.ndarray | None = None

    def read(self, name: str) -> PanopticMap:
        """Read a frame as classes, 255 void; instance 0 of a thing is a crowd."""
        if isinstance(self.labels, CocoSet):
            assert self.table is not None
            panoptic = self.labels.read(name, len(self.table))
            return panoptic.with_category(as_classes(panoptic.category, self.table))
        ids, instances = self.labels.read(name)
        refuse_other_ids(self.labels.files[name][0], ids, self.classes)
        category = self.classes.of_ids(ids)
        thing = np.isin(category, self.classes.things)
        if self.labels.files[name][1] is not None:
            refuse_other_instances(self._instance_file(name), instances, ids, self.classes, plain=True)
        numbers = np.where(thing, without_bare_ids(instances, ids), 0)
        return PanopticMap.from_maps(category, numbers)

    def _instance_file(self, name: str) -> Path:
        assert isinstance(self.labels, IdFolder)
        return self.labels.files[name][1] or self.labels.files[name][0]


def as_classes(positions: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Map positions of categories to classes, 255 for none; `len(table)` is void."""
    return np.append(np.where(table < 0, VOID, table), VOID)[positions]


def open_truth(labels: Labels, classes: ClassSet, train_ids: bool = False) -> Truth:
    """Return ground truth as classes; a few files are looked at before anything is scored.

    Args:
        classes: that the ids, or the names of a COCO set, are of.
        train_ids: maps hold trainIds, places among the classes, instead of ids.

    Raises:
        UserError: another numbering than the classes call for, or no pixel of any class.
    """
    if isinstance(labels, IdFolder):
        classes = by_place(classes) if train_ids else classes
        files = [(semantic, instance or semantic) for semantic, instance in labels.files.values()]
        names = list(labels.files)

        def read(index: int) -> tuple[np.ndarray, np.ndarray]:
            ids, instances = labels.read(names[index])
            # Without instance files nothing is to be said of them: bare ids are what groups have.
            return ids, instances if labels.has_instances else ids

        check_numbering(files, read, classes, plain=True)
        return Truth(labels, classes)
    table, without = class_table(labels, classes)
    if without:
        log.warning("%s: void, for no class has these names: %s", labels.path, some(without))
    return Truth(labels, classes, table)


@dataclass(frozen=True)
class Pairs:
    """Frames by name in both sets.

    Attributes:
        both: (name in the ground truth, name in the prediction) of each frame.
        missing: frames of the ground truth without a prediction.
        extra: predictions without ground truth.
    """

    both: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    def notes(self) -> list[str]:
        """Return a line each on missing and extra frames."""
        parts = (
            (self.missing, "without a prediction, left out"),
            (self.extra, "predicted without ground truth"),
        )
        return [f"{len(names)} frames {what}: {some(list(names))}" for names, what in parts if names]


def pair(truth: Labels, guess: Labels) -> Pairs:
    """Pair frames by their names; where none agrees, by the last part of the names, if that tells them apart.

    Of Cityscapes' images, that part is without `_leftImg8bit`.

    Raises:
        UserError: no frame is in both.
    """
    names, wanted = {comparable(name): name for name in guess.names}, [*map(comparable, truth.names)]
    if not set(wanted) & set(names):
        last = {_frame_name(key): name for key, name in names.items()}
        ends = [_frame_name(key) for key in wanted]
        if len(last) == len(guess.names) and len(set(ends)) == len(ends):
            names = {key: last[end] for key, end in zip(wanted, ends, strict=True) if end in last}
    found = [(name, names.get(key)) for name, key in zip(truth.names, wanted, strict=True)]
    both = tuple((name, other) for name, other in found if other is not None)
    if not both:
        raise UserError(
            f"{guess.path}: no frame of {truth.path} is predicted; names are paths without suffix, there "
            f"{truth.names[0]}, here {guess.names[0]}"
        )
    paired = {other for _, other in both}
    missing = tuple(name for name, other in found if other is None)
    return Pairs(both, missing, tuple(name for name in guess.names if name not in paired))


def _frame_name(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(IMAGE_MARK)


class FolderFrames(Dataset[tuple[PanopticMap, PanopticMap]]):
    """Items: prediction and ground truth of a frame, both at the size of the ground truth."""

    def __init__(self, truth: Truth, guess: Guess, frames: Sequence[tuple[str, str]]) -> None:
        self.truth, self.guess, self.frames = truth, guess, frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[PanopticMap, PanopticMap]:
        name, other = self.frames[index]
        prediction = self.guess.read(other)
        target = self.truth.read(name).with_void(VOID, void_value(self.guess.total))
        size, found = target.shape, prediction.shape
        if abs(found[1] * size[0] / size[1] - found[0]) > 1.0:
            raise UserError(
                f"{self.guess.labels.path}: {other} is {found[0]}x{found[1]}, which does not fit the ground "
                f"truth {size[0]}x{size[1]}; predict on the images of this ground truth"
            )
        return prediction.resized(size), target


def score(
    truth: Truth,
    guess: Guess,
    pairs: Pairs,
    name: str,
    separate: bool = True,
    workers: int = 0,
    video: bool = False,
    **rest: Any,
) -> tuple[list[Result], ScoredRows | None]:
    """Score a prediction in one pass; one Result per void rule, and the rows that they were made of.

    PQ where both sets have instances, else the semantic scores alone, which have no rows.

    Args:
        name: of the protocol: what is scored on what.
        separate: match things with things and stuff with stuff only.
        workers: reading processes.
        video: also as video, see `cups.metrics.VideoQualitySemanticMatching`.
        rest: further fields of `Result`.

    Raises:
        UserError: files that cannot be read, or that do not fit each other.
    """
    panoptic = all(
        not isinstance(labels, IdFolder) or labels.has_instances for labels in (truth.labels, guess.labels)
    )
    if video and not panoptic:
        raise UserError(f"{guess.labels.path}: `video`: needs objects on both sides; leave it out")
    named, classes, label = guess.named, truth.classes, guess.labels.path.stem
    apart = separate and named is None
    metric, confusion = _counted(truth, guess, pairs, workers, _metric(truth, guess, apart, video), panoptic)
    matching: Matching = "named" if named is not None else "separate" if apart else "joint"
    protocol = Protocol(name, classes.num_classes, class_file=classes.file, matching=matching)
    if not panoptic:
        log.warning("no instance files on one side: semantics alone are scored")
        protocol = replace(protocol, task="semantic", matching="joint" if named is None else "named")
        assignment = hungarian_assignment(confusion.counts[:-1]) if named is None else named
        return results_of_counts(label, confusion.counts, assignment, protocol, **rest), None
    scores: dict[VoidRule, dict[str, Any]] = {
        rule: dict(values) for rule, values in metric.compute_all(named).items()
    }
    if named is not None:
        _add_semantics(scores, confusion.counts, named, classes)
    rows = metric.scored_rows([frame for frame, _ in pairs.both], classes.names, scores)
    return results_from_scores(label, scores, classes, protocol, **rest), rows


def _metric(truth: Truth, guess: Guess, apart: bool, video: bool) -> PanopticQualitySemanticMatching:
    """Return the empty metric; `apart`: things are matched with things, stuff with stuff."""
    classes, things = truth.classes, guess.things
    stuffs = [index for index in range(guess.total) if index not in things]
    return (VideoQualitySemanticMatching if video else PanopticQualitySemanticMatching)(
        classes.things,
        classes.stuffs,
        guess.total,
        things_prototype=things if apart else None,
        stuffs_prototype=stuffs if apart else None,
        classes_mask=classes.evaluated,
        void=void_value(guess.total),
    )


def _counted(
    truth: Truth,
    guess: Guess,
    pairs: Pairs,
    workers: int,
    metric: PanopticQualitySemanticMatching,
    panoptic: bool,
) -> tuple[PanopticQualitySemanticMatching, ConfusionMatrix]:
    """Show all frames to the metric, where both sides are `panoptic`, and to a confusion matrix; return both.

    Raises:
        UserError: files that cannot be read or do not fit each other, or ground truth that is all void.
    """
    confusion = ConfusionMatrix(guess.total, truth.classes.num_classes, void=void_value(guess.total))
    data = FolderFrames(truth, guess, pairs.both)
    loader = DataLoader(data, batch_size=None, num_workers=workers, worker_init_fn=ignore_stop_signals)
    clips = iter(clip_places([frame for frame, _ in pairs.both]))
    video = isinstance(metric, VideoQualitySemanticMatching)
    for prediction, target in tqdm(loader, total=len(data), desc="score", unit="img"):
        confusion.update(prediction.categories, target.categories)
        if panoptic:
            metric.update([prediction], [target], [frame_id(*next(clips))] if video else None)
    if not confusion.counts.any():
        raise UserError(
            f"{truth.labels.path}: void everywhere: there is nothing to score; give other ground truth"
        )
    return metric, confusion


def _add_semantics(
    scores: dict[VoidRule, dict[str, Any]], counts: np.ndarray, named: np.ndarray, classes: ClassSet
) -> None:
    """Add the semantic scores of classes by name to those of each void rule."""
    for rule in VOID_RULES:
        quality = semantic_quality(counts, named, void_rule=rule, classes_mask=classes.evaluated)
        scores[rule].update(miou=quality.miou, accuracy=quality.accuracy, iou_per_class=quality.iou_per_class)
        scores[rule]["assignment_semantic"] = scores[rule]["assignment"]
