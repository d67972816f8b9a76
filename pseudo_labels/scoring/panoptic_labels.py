"""Scores of pseudo-labels with instances, in any of their formats."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from cups.data.cityscapes import GroundTruthFrame
from cups.data.pseudo_label_dataset import load_statistics
from cups.errors import UserError
from cups.evaluation.results import Result, results_from_scores, results_report
from cups.io.file_names import SEMANTIC_SUFFIX
from cups.io.markdown import markdown_table, percent
from cups.labels.coco_sets import read_coco_set
from cups.metrics.protocol import Matching
from cups.metrics.scored_rows import ScoredRows
from cups.taxonomy import VOID
from pseudo_labels.inputs.instances import found_instances
from pseudo_labels.inputs.labels import thing_classes
from pseudo_labels.scoring.engine import (
    CupsLabels,
    Evaluation,
    FolderLabels,
    PanopticLabels,
    Reader,
    evaluate,
    ground_truth_frames,
    read_cups_classes,
)
from pseudo_labels.scoring.publish import publish, record, require_folder, save_names
from pseudo_labels.scoring.semantic import SemanticLabels, SemanticReader, semantic_report, semantic_results
from pseudo_labels.scoring.semantic_labels import fitted_counts
from pseudo_labels.settings.labels import DEFAULT_CLASSES
from pseudo_labels.settings.scoring import (
    DEFAULT_K,
    CascadeScores,
    OverclusterScores,
    PseudoLabelScores,
    ScoredImages,
)
from pseudo_labels.steps.ancestry import refuse_other_semantics
from pseudo_labels.steps.frames import Folder
from pseudo_labels.steps.label_kind import number_of_classes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labels:
    """Semantics with instances to be scored.

    Attributes:
        name: for the results.
        read: reader of semantic and instance map.
        num_classes: pseudo-classes K.
        things: those that are things.
        inputs: folders, for provenance.
        read_semantic: reader of the semantic map in the split that matchings are fitted on.
    """

    name: str
    read: Reader
    num_classes: int
    things: tuple[int, ...]
    inputs: tuple[Path, ...]
    read_semantic: SemanticReader | None = None


def score_pseudolabels(images: ScoredImages, settings: PseudoLabelScores) -> str:
    """Score labels in any format under both void rules and write the results; returns the report.

    Raises:
        UserError: missing labels or ground truth, or no thing/stuff split.
    """
    classes = settings.scored
    frames = ground_truth_frames(images.cityscapes_root, images.split, images.max_images, classes)
    labels = choose_labels(images, settings)
    evaluation = _evaluate(images, settings, labels, frames)
    settings = replace(settings, num_semantic_classes=labels.num_classes)
    more = record(images, settings, labels.inputs, things=list(labels.things))
    results = results_from_scores(labels.name, evaluation.scores, classes, evaluation.protocol, **more)
    return publish(images, labels.name, results, results_report(results), evaluation.rows)


def choose_labels(images: ScoredImages, settings: PseudoLabelScores) -> Labels:
    """Return the labels that the settings name: in the CUPS format, panoptic, or of two folders.

    Raises:
        UserError: missing labels, or no thing/stuff split.
    """
    if (folder := settings.cups_dir) is not None:
        count, things = read_cups_classes(folder, settings.thing_stuff_threshold)
        return Labels(folder.name, CupsLabels(folder, count), count, things, (folder,))
    if settings.panoptic_subdir is not None:
        folder = images.label_root / settings.panoptic_subdir
        coco = read_coco_set(folder / f"{images.split}.json")
        read = PanopticLabels(coco)
        return Labels(folder.name, read, read.num_classes, coco.things, (folder,))
    semantics = Folder(images.label_root, settings.semantic_subdir, ".png")
    require_folder(semantics.directory, "`semantic_subdir`")
    found = found_instances(images.label_root, settings.instance_subdir, settings.instances)
    instances = require_folder(found.directory, "`instance_subdir`")
    refuse_other_semantics(semantics.directory, instances)
    things = thing_classes(semantics, settings.thing_classes, settings.split_json, settings.accept_nothing)
    count = number_of_classes(semantics.directory, settings.num_semantic_classes) or DEFAULT_CLASSES
    return Labels(
        f"{semantics.name}+{instances.name}",
        FolderLabels(semantics.directory, instances, images.split, count),
        count,
        things,
        (semantics.directory, instances),
    )


def _evaluate(
    images: ScoredImages,
    settings: PseudoLabelScores | CascadeScores | OverclusterScores,
    labels: Labels,
    frames: Sequence[GroundTruthFrame],
    semantics: bool = False,
) -> Evaluation:
    """Score labels as the settings say; see `engine.evaluate`."""
    return evaluate(
        frames,
        labels.read,
        classes=settings.scored,
        num_clusters=labels.num_classes,
        things=labels.things,
        matching=cast(Matching, settings.matching),
        workers=images.num_workers,
        semantics=semantics,
    )


def score_labels(
    images: ScoredImages,
    settings: CascadeScores | OverclusterScores,
    labels: Labels,
    frames: Sequence[GroundTruthFrame],
) -> tuple[list[Result], str, ScoredRows]:
    """Score labels in one pass: PQ under the Hungarian matching, and semantics under every matching.

    Returns:
        Results, their report, and the rows of the panoptic ones.
    """
    classes = settings.scored
    evaluation = _evaluate(images, settings, labels, frames, semantics=True)
    assert evaluation.counts is not None and labels.read_semantic is not None
    more = record(images, settings, labels.inputs, things=list(labels.things), images=len(frames))
    panoptic = results_from_scores(labels.name, evaluation.scores, classes, evaluation.protocol, **more)
    protocol = replace(evaluation.protocol, task="semantic")
    fitted, protocol = fitted_counts(
        images, settings.match_split, labels.read_semantic, protocol, labels.num_classes
    )
    semantic = semantic_results(labels.name, evaluation.counts, protocol, fitted=fitted, **more)
    report = f"{results_report(panoptic)}\n\nSemantics alone, as stored:\n\n{semantic_report(semantic)}"
    return [*panoptic, *semantic], report, evaluation.rows


def score_cascade_labels(images: ScoredImages, settings: CascadeScores) -> str:
    """Score a folder in the CUPS format as training takes it, and write the results; returns the report.

    Raises:
        UserError: missing folder, statistics, ground truth or labels of an image.
    """
    folder = settings.cups_dir
    count, things = read_cups_classes(folder, settings.thing_stuff_threshold)
    reader = SemanticLabels(folder, None, count)
    labels = Labels(folder.name, CupsLabels(folder, count), count, things, (folder,), reader)
    results, report, rows = score_labels(images, settings, labels, labelled_frames(images, settings))
    table = pseudo_class_table(folder, things, results[0], settings.scored.names)
    return publish(images, folder.name, results, f"{report}\n\n{table}", rows)


def labelled_frames(images: ScoredImages, settings: CascadeScores) -> list[GroundTruthFrame]:
    """Return the frames to score.

    Raises:
        UserError: an image without labels (unless `only_labelled`), or none with.
    """
    folder = settings.cups_dir
    frames = ground_truth_frames(images.cityscapes_root, images.split, None, settings.scored)
    missing = [frame for frame in frames if not (folder / f"{frame.stem}{SEMANTIC_SUFFIX}").is_file()]
    if missing and not settings.only_labelled:
        raise UserError(
            f"{folder}: no labels of {missing[0].stem} (and {len(missing) - 1} more of {images.split}); "
            "convert that split, choose another `split`, or add `only_labelled`"
        )
    left_out = {frame.stem for frame in missing}
    kept = [frame for frame in frames if frame.stem not in left_out]
    if not kept:
        raise UserError(f"{folder}: no labels of {images.split}; convert that split or change `split`")
    if missing:
        log.warning("%d of %d images have no labels and are left out", len(missing), len(frames))
    return kept[: images.max_images]


def pseudo_class_table(folder: Path, things: Sequence[int], result: Result, names: Sequence[str]) -> str:
    """Return a Markdown table of the pseudo-classes, most thing-like first: share inside instances, match."""
    all_pixels, inside = load_statistics(folder)
    share = (inside / all_pixels.clamp(min=1)).tolist()
    pixels = (all_pixels / all_pixels.sum().clamp(min=1)).tolist()
    rows = []
    for index in sorted(range(len(share)), key=lambda index: (-share[index], index)):
        match = result.assignment[index]
        kind = "thing" if index in things else "stuff"
        name = "none" if match == VOID else names[match]
        rows.append((index, kind, percent(share[index]), percent(pixels[index]), name))
    return markdown_table(rows, ("pseudo-class", "kind", "inside instances", "of all pixels", "matched"))


def score_overclusters(images: ScoredImages, settings: OverclusterScores) -> str:
    """Score raw clusters with their instances and write the results; returns the report.

    Raises:
        UserError: missing labels or ground truth, no thing/stuff split, or another number of clusters.
    """
    semantics = Folder(images.label_root, settings.semantics, ".png")
    require_folder(semantics.directory, "`semantic_subdir` and `k`")
    found = found_instances(images.label_root, settings.instance_subdir, settings.instances)
    instances = require_folder(found.directory, "`instance_subdir`")
    refuse_other_semantics(semantics.directory, instances)
    k = number_of_classes(semantics.directory, settings.k, "k") or DEFAULT_K
    labels = Labels(
        f"{semantics.name}+{instances.name}",
        FolderLabels(semantics.directory, instances, images.split, k),
        k,
        thing_clusters(semantics, settings, k),
        (semantics.directory, instances),
        SemanticLabels(semantics.directory, settings.match_split or images.split, k),
    )
    frames = ground_truth_frames(images.cityscapes_root, images.split, images.max_images, settings.scored)
    results, report, rows = score_labels(images, replace(settings, k=k), labels, frames)
    saved = save_names(settings.save_names, results[0], semantics.directory)
    return publish(images, f"{labels.name}_k{k}", results, report, rows) + saved


def thing_clusters(semantics: Folder, settings: OverclusterScores, k: int) -> tuple[int, ...]:
    """Return the thing clusters.

    Raises:
        UserError: nothing tells, or clusters beyond K.
    """
    if settings.statistics is not None:
        count, things = read_cups_classes(settings.statistics, settings.thing_stuff_threshold)
        if count != k:
            raise UserError(f"{settings.statistics}: statistics of {count} pseudo-classes, but `k` is {k}")
        return things
    things = thing_classes(semantics, settings.thing_classes, settings.split_json, settings.accept_nothing)
    if max(things, default=0) >= k:
        raise UserError(f"`thing_classes`: {max(things)} is no cluster of `k` {k}; check both")
    return things
