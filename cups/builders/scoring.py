"""The two ways to score a network, each from a configuration to its results on disk."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from torch.utils.data import Subset
from yacs.config import CfgNode

from cups.builders.evaluation import (
    EvaluatedNetwork,
    build_metric,
    build_semantic_scorers,
    build_validation_data,
    evaluated_classes,
    known_classes,
    load_for_evaluation,
    results_of,
)
from cups.builders.inference import prediction_settings, validation_root
from cups.builders.run_directory import run_directory
from cups.builders.trainer import validation_loader
from cups.categories import save_names
from cups.data import CityscapesPanopticValidation
from cups.evaluation.panoptic_export import PanopticExport
from cups.evaluation.predict import Visitor, predict, save_to, score_with, write_overlays
from cups.evaluation.results import Result, write_results
from cups.io.model_folder import weights_file

log = logging.getLogger(__name__)


def evaluate(config: CfgNode, output: Path | None = None, visualize: bool = False) -> list[Result]:
    """Score a network on the validation data; return the results, which `results.*` hold too.

    Args:
        config: the whole configuration.
        output: folder of the results; None is the folder that the configuration names.
        visualize: write an overlay of every frame.
    """
    network = load_for_evaluation(config)
    output = output or run_directory(config, "val")
    return score_network(network, build_validation_data(config), config, output, visualize)


def score_network(
    network: EvaluatedNetwork,
    dataset: CityscapesPanopticValidation,
    config: CfgNode,
    output: Path,
    visualize: bool = False,
) -> list[Result]:
    """Score an open network on open data; as `evaluate` otherwise."""
    pseudo = network.pseudo
    metric = build_metric(config, pseudo, known_classes(network, config))
    scorers = build_semantic_scorers(config, pseudo)
    names: list[str] = []
    visitors: list[Visitor] = [*scorers, score_with(metric, names)]
    if visualize:
        visitors.append(save_to(output / "predictions", pseudo))
    loader = validation_loader(dataset, config)
    predict(network.model, loader, pseudo, visitors, len(loader))
    results, rows = results_of(metric, names, scorers, config, network.checkpoint)
    write_results(output / "results", results, rows=rows)
    if visualize:
        assignment = np.array(results[0].assignment)
        overlays = output / "overlays"
        write_overlays(dataset, output / "predictions", overlays, pseudo, dataset.classes, assignment)
    log.info("results: %s", output)
    return results


def save_matched_names(config: CfgNode, result: Result) -> Path:
    """Write the classes that a result matched to the pseudo-classes beside the checkpoint; return the file.

    Ground truth named them: the file says so.
    """
    about = {
        "uses_ground_truth": True,
        "source": "matched to ground truth by val.py",
        "protocol": result.protocol,
        "void_rule": result.void_rule,
        "data": Path(validation_root(config)).resolve().name,
        "code_version": result.code_version,
    }
    checkpoint = weights_file(config.MODEL.CHECKPOINT)
    path = save_names(checkpoint, evaluated_classes(config), result.assignment, about)
    log.info("names: %s", path)
    return path


def export_panoptic(config: CfgNode, output: Path, raw: bool = False) -> list[Result]:
    """Write panoptic maps of the validation data in the COCO panoptic format; return the results.

    Args:
        config: the whole configuration.
        output: folder of predictions and results; frames that it holds already, newer than their
            images, are not predicted again.
        raw: describe the pseudo-classes themselves too.
    """
    network = load_for_evaluation(config)
    pseudo = network.pseudo
    dataset = build_validation_data(config)
    export = PanopticExport(output, dataset.images, pseudo)
    export.claim(prediction_settings(config))
    todo = export.todo()
    log.info("%d of %d frames to predict", len(todo), len(dataset))
    if todo:
        loader = validation_loader(Subset(dataset, todo), config)
        predict(network.model, loader, pseudo, [save_to(export.maps, pseudo)], len(loader))
    if raw:
        log.info("pseudo-classes: %s", export.write_raw_json())
    metric = build_metric(config, pseudo, known_classes(network, config))
    names: list[str] = []
    loader = validation_loader(dataset, config)
    export.replay(loader, score_with(metric, names), len(loader))
    results, rows = results_of(metric, names, [], config, network.checkpoint)
    write_results(output / "results", results, rows=rows)
    log.info("classes: %s", export.write_mapped(np.array(results[0].assignment), dataset.classes))
    return results
