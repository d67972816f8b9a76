"""Scores of a folder of semantic pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cups.data.pseudo_label_dataset import load_statistics
from cups.errors import UserError
from cups.evaluation.results import Result
from cups.metrics.protocol import NAMED, Protocol
from cups.taxonomy import ClassSet
from pseudo_labels.scoring.engine import ground_truth_frames
from pseudo_labels.scoring.publish import publish, record, require_folder, save_names
from pseudo_labels.scoring.semantic import (
    SemanticLabels,
    SemanticReader,
    semantic_counts,
    semantic_report,
    semantic_results,
)
from pseudo_labels.settings.scoring import ScoredImages, SemanticScores
from pseudo_labels.steps.label_kind import LabelKind, label_kind, number_of_classes, stated_classes

NAMED_KINDS = {"trainid": LabelKind("trainId", 19), "class27": LabelKind("cause27", 27)}
"""Values of `labels` whose classes have names."""


def kind_of(folder: Path, settings: SemanticScores) -> LabelKind:
    """Return what the labels of a folder are: as the settings say, else as the folder does.

    Raises:
        UserError: clusters whose number neither tells, or of which both tell another.
    """
    if settings.labels in NAMED_KINDS:
        return NAMED_KINDS[settings.labels]
    given = settings.num_semantic_classes
    if settings.cups_dir is not None:
        return LabelKind("clusters", stated_classes(folder, given) or len(load_statistics(folder)[0]))
    told, count = label_kind(folder), number_of_classes(folder, given)
    if settings.labels == "auto" and told is not None and told.kind != "clusters":
        return told
    if count is None:
        raise UserError(f"`num_semantic_classes`: missing; {folder} does not tell the number of clusters")
    return LabelKind("clusters", count)


def fitted_counts(
    images: ScoredImages, match_split: str | None, read: SemanticReader, protocol: Protocol, num_clusters: int
) -> tuple[np.ndarray | None, Protocol]:
    """Count the split that matchings are fitted on, if it is another than the one scored; name it.

    Args:
        match_split: that split; None: the one scored.
        read: its reader.
    """
    if match_split in (None, images.split):
        return None, replace(protocol, fitted_on=f"the {images.split} images scored")
    assert match_split is not None
    frames = ground_truth_frames(images.cityscapes_root, match_split, images.max_images, protocol.classes)
    counts = semantic_counts(frames, read, protocol, num_clusters, images.num_workers)
    return counts, replace(protocol, fitted_on=f"{match_split} ({len(frames)} images)")


def score_semantic_labels(images: ScoredImages, settings: SemanticScores) -> str:
    """Score a folder of semantic maps under every matching and write the results; returns the report.

    Raises:
        UserError: missing labels or ground truth, or an unknown number of clusters.
    """
    folder = settings.cups_dir or images.label_root / settings.semantic_subdir
    require_folder(folder, "`cups_dir`" if settings.cups_dir else "`semantic_subdir`")
    kind = kind_of(folder, settings)
    if settings.cups_dir is not None and kind.kind == "clusters":
        settings = replace(settings, num_semantic_classes=kind.num_classes)
    count = kind.num_classes
    protocol = NAMED[settings.protocol] if settings.protocol else _protocol(settings.scored)
    frames = ground_truth_frames(images.cityscapes_root, images.split, images.max_images, protocol.classes)

    def reader(split: str) -> SemanticLabels:
        return SemanticLabels(folder, None if settings.cups_dir else split, count)

    counts = semantic_counts(frames, reader(images.split), protocol, count, images.num_workers)
    read = reader(settings.match_split or images.split)
    fitted, protocol = fitted_counts(images, settings.match_split, read, protocol, count)
    more = record(images, settings, [folder], images=len(frames))
    named = kind.kind != "clusters"
    results = semantic_results(folder.name, counts, protocol, fitted=fitted, named=named, **more)
    saved = save_names(settings.save_names, _hungarian(results), folder)
    return publish(images, f"{folder.name}_semantic", results, semantic_report(results)) + saved


def _hungarian(results: Sequence[Result]) -> Result:
    """Return the result under the Hungarian matching, of all clusters where there are many."""
    ends = (", joint", ", one-to-one")
    return next(result for end in ends for result in results if result.name.endswith(end))


def _protocol(classes: ClassSet) -> Protocol:
    count = classes.num_classes
    return Protocol(f"pseudo-labels-{count}", num_classes=count, class_file=classes.file, task="semantic")
