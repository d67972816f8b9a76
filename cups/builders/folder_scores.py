"""From a configuration and two label folders to results on disk."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from cups.builders.evaluation import evaluated_classes
from cups.builders.run_directory import run_directory
from cups.config import plain
from cups.errors import UserError
from cups.evaluation.folders import open_truth, pair, score
from cups.evaluation.results import results_report, write_results
from cups.folder_settings import FolderSettings
from cups.io.provenance import code_version, describe_input
from cups.labels.coco_sets import CocoSet
from cups.labels.label_folders import open_labels
from cups.labels.pseudo_classes import open_guess
from cups.taxonomy import load_class_set

log = logging.getLogger(__name__)


def score_folders(config: CfgNode, settings: FolderSettings, output: Path | None = None) -> str:
    """Score predictions on disk against ground truth on disk; write `results.*` and return the report.

    Args:
        config: the whole configuration; `DATA.CLASSES` or `DATA.NUM_CLASSES` are the classes. Without a class
            file, ground truth in the COCO format is scored by its own categories.
        settings: the two sets of labels.
        output: folder of the results; None is the folder that the configuration names.

    Raises:
        UserError: one of the two is missing or unreadable, or frames without a prediction.
    """
    truth_path, prediction_path = settings.paths()
    truth_labels, labels = open_labels(truth_path), open_labels(prediction_path)
    pairs = pair(truth_labels, labels)
    if pairs.missing and not settings.only_predicted:
        raise UserError(
            f"{prediction_path}: {len(pairs.missing)} of {len(truth_labels.names)} frames of the ground "
            f"truth have no prediction, first {pairs.missing[0]}; predict them, or add `only_predicted`"
        )
    for note in pairs.notes():
        log.warning("%s", note)
    own = isinstance(truth_labels, CocoSet) and not config.DATA.CLASSES
    classes = load_class_set(truth_labels.path) if own else evaluated_classes(config)
    truth = open_truth(truth_labels, classes, settings.truth_ids == "trainId")
    guess = open_guess(labels, classes, settings.prediction_ids, [name for _, name in pairs.both])
    rest: dict[str, Any] = {
        "code_version": code_version(),
        "config": plain(config) | {"truth": str(truth_path), "prediction": str(prediction_path)},
        "provenance": describe_input(prediction_path),
    }
    name = f"{prediction_path.name} on {truth_path.name} ({len(pairs.both)} images)"
    separate, workers = config.VALIDATION.ADHERE_THING_STUFF, config.SYSTEM.NUM_WORKERS
    results, rows = score(truth, guess, pairs, name, separate, workers, settings.video, **rest)
    output = output or run_directory(config, "val")
    report = "\n\n".join([results_report(results), *(f"- {note}." for note in pairs.notes())])
    write_results(output / "results", results, report, rows)
    log.info("results: %s", output)
    return report
