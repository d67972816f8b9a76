"""From a configuration to an evaluation: the network as it is evaluated, scorers, protocols, results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from cups.builders.inference import as_evaluated, validation_root
from cups.config import plain
from cups.config_keys import get
from cups.data import CityscapesPanopticValidation
from cups.data.validation_sets import classes_of_set, open_validation_set
from cups.defaults import VOID_RULE
from cups.errors import UserError
from cups.evaluation.results import Result, results_from_scores
from cups.evaluation.semantic import SemanticScorer
from cups.io.checkpoint import Checkpoint, load_checkpoint
from cups.io.files import file_sha256
from cups.io.provenance import code_version
from cups.metrics import PanopticQualitySemanticMatching, ScoredRows
from cups.metrics.protocol import Matching, Protocol
from cups.model.model import network_of
from cups.network import own_classes, split_of
from cups.set_files import find_set
from cups.structures import PseudoClasses, ThingStuffSplit
from cups.taxonomy import ClassSet, load_class_set

log = logging.getLogger(__name__)


def given_checkpoint(config: CfgNode) -> Path:
    """Return `MODEL.CHECKPOINT`.

    Raises:
        UserError: none is given.
    """
    if config.MODEL.CHECKPOINT is None:
        raise UserError("MODEL.CHECKPOINT is not set; give a checkpoint with `checkpoint`")
    return Path(config.MODEL.CHECKPOINT)


@dataclass(frozen=True)
class EvaluatedNetwork:
    """A network as it is evaluated.

    Attributes:
        model: with all that the configuration wants around it.
        pseudo: its pseudo-classes.
        checkpoint: what its file says beside the weights; these are in the model.
    """

    model: torch.nn.Module
    pseudo: PseudoClasses
    checkpoint: Checkpoint


def load_for_evaluation(config: CfgNode) -> EvaluatedNetwork:
    """Open `MODEL.CHECKPOINT`, once for all that an evaluation asks of it.

    Raises:
        UserError: no checkpoint given, or one that cannot be read.
    """
    checkpoint = load_checkpoint(given_checkpoint(config), config.MODEL.USE_TEACHER)
    device = "cuda" if config.SYSTEM.ACCELERATOR != "cpu" and torch.cuda.is_available() else "cpu"
    threshold = config.MODEL.INFERENCE_CONFIDENCE_THRESHOLD
    network, pseudo = network_of(checkpoint, device, threshold, config.MODEL.CONFIG)
    return EvaluatedNetwork(as_evaluated(network, config), pseudo, replace(checkpoint, state={}))


def _frames(config: CfgNode) -> str:
    """Return what is evaluated: data set, split, frames and crop."""
    data = config.DATA
    described = find_set(data.DATASET)
    chosen = data.VAL_FRAMES or described.select
    frames = f" ({chosen})" if chosen else ""
    crop = " cropped to {}x{}".format(*data.VAL_CROP_RESOLUTION) if data.VAL_CROP_RESOLUTION else ""
    return f"{described.name} {data.VAL_SPLIT}{frames}{crop}"


def evaluated_classes(config: CfgNode) -> ClassSet:
    """Return the classes of the ground truth: of `DATA.CLASSES`, else those that the data set has.

    Raises:
        UserError: a class file that is missing or wrong.
    """
    data = config.DATA
    if data.CLASSES:
        return load_class_set(data.CLASSES)
    return classes_of_set(data.DATASET, validation_root(config), data.VAL_SPLIT, data.NUM_CLASSES)


def known_classes(network: EvaluatedNetwork, config: CfgNode) -> np.ndarray | None:
    """Return (S+T,) the class of each output of a network, None where outputs are pseudo-classes.

    A network that learnt the evaluated classes from ground truth needs no matching.
    """
    checkpoint = network.checkpoint
    if "classes" not in checkpoint.hyper_parameters:
        return None
    split = split_of(checkpoint, network.pseudo)
    own_classes(checkpoint, split)  # refuses what does not fit
    known = identity_assignment(checkpoint.hyper_parameters["classes"], split, evaluated_classes(config))
    if known is None:
        log.warning("%s: knows other classes than those evaluated; they are matched", checkpoint.path)
    return known


def identity_assignment(rows: Any, split: ThingStuffSplit, classes: ClassSet) -> np.ndarray | None:
    """Return (S+T,) the class of each output of a network that knows the evaluated ones, None of others.

    Args:
        rows: what its checkpoint says of its classes, as `class_rows`.
        split: things and stuff of the network.
        classes: those that it is evaluated on; names and kinds must be equal, whatever their order.
    """
    known = {(name, number in classes.things): number for number, name in enumerate(classes.names)}
    told = [known.get((row["name"], row["isthing"])) for row in rows or ()]
    if not told or None in told or len(set(told)) != len(classes.names):
        return None
    return np.array([told[number] for number in (*split.stuffs, *split.things)])


def panoptic_protocol(config: CfgNode, named: bool = False) -> Protocol:
    """Return the panoptic protocol that the configuration describes; `named`: nothing is matched."""
    validation = config.VALIDATION
    classes = evaluated_classes(config)
    matching: Matching = "separate" if validation.ADHERE_THING_STUFF else "joint"
    return Protocol(
        _frames(config),
        num_classes=classes.num_classes,
        class_file=classes.file,
        matching="named" if named else matching,
        void_rule=validation.VOID_RULE,
        scale=config.DATA.VAL_SCALE,
    )


def semantic_protocols(config: CfgNode) -> list[Protocol]:
    """Return the semantic protocols: whole frames, and STEGO's centre crop if the configuration wants it."""
    classes, crop = evaluated_classes(config), config.VALIDATION.SEMSEG_CENTER_CROP_SIZE
    whole = replace(panoptic_protocol(config), matching="joint", task="semantic", void_rule=VOID_RULE)
    if crop is None:
        return [whole]
    return [
        whole,
        replace(whole, name=f"semantic-{classes.num_classes}-crop{crop} on {whole.name}", crop=crop),
    ]


def build_semantic_scorers(config: CfgNode, pseudo: PseudoClasses) -> list[SemanticScorer]:
    """Build the scorers of semantic maps: the semantic head's, and under a crop the panoptic output's too.

    On whole frames `PanopticQualitySemanticMatching` scores the panoptic output. The semantic head tells
    stuff apart but has a single channel for all things.
    """
    scorers = []
    for protocol in semantic_protocols(config):
        where = ""
        if protocol.crop is not None:
            where = f" (crop {protocol.crop})"
            name = f"panoptic output{where}"
            scorers.append(
                SemanticScorer(
                    name, protocol, pseudo.total, lambda p: torch.from_numpy(p.panoptic.categories)
                )
            )
        name = f"semantic head{where}"
        scorers.append(SemanticScorer(name, protocol, pseudo.stuffs + 1, lambda p: p.semantic))
    return scorers


def results_of(
    metric: PanopticQualitySemanticMatching,
    names: Sequence[str],
    scorers: list[SemanticScorer],
    config: CfgNode,
    checkpoint: Checkpoint,
) -> tuple[list[Result], ScoredRows]:
    """Return all results under both void rules, and the rows that the panoptic ones were made of.

    The first result is panoptic, under `VALIDATION.VOID_RULE`. `names`: of the images that `metric` saw.
    """
    scores = metric.compute_all()
    first = config.VALIDATION.VOID_RULE
    rest: dict[str, Any] = {
        "seeds": [config.SYSTEM.SEED],
        "code_version": code_version(),
        "config": plain(config),
        "provenance": checkpoint.provenance or {"uses_ground_truth": None},
        "checkpoint": {"path": str(checkpoint.path), "sha256": file_sha256(checkpoint.path)},
    }
    wrappers = [key for key in ("TTA", "CRF") if get(config, f"VALIDATION.USE_{key}")]
    name = " + ".join([str(config.SYSTEM.RUN_NAME or checkpoint.path.resolve().stem), *wrappers])
    results = results_from_scores(
        name,
        {first: scores[first], **scores},
        evaluated_classes(config),
        panoptic_protocol(config, metric.assignment is not None),
        **rest,
    )
    for scorer in scorers:
        results += scorer.results(name, **rest)
    return results, metric.scored_rows(names, evaluated_classes(config).names, scores)


def build_validation_data(config: CfgNode) -> CityscapesPanopticValidation:
    """Build the validation data set."""
    data = config.DATA
    crop = tuple(data.VAL_CROP_RESOLUTION) if data.VAL_CROP_RESOLUTION else None
    return open_validation_set(
        data.DATASET,
        validation_root(config),
        data.VAL_SPLIT,
        evaluated_classes(config),
        scale=data.VAL_SCALE,
        crop=crop,
        select=data.VAL_FRAMES or "",
    )


def build_metric(
    config: CfgNode, pseudo: PseudoClasses, assignment: np.ndarray | None = None
) -> PanopticQualitySemanticMatching:
    """Build the metric over a network's categories; `assignment` is that of `known_classes`."""
    classes = evaluated_classes(config)
    separate = config.VALIDATION.ADHERE_THING_STUFF
    return PanopticQualitySemanticMatching(
        set(classes.things),
        set(classes.stuffs),
        num_clusters=pseudo.total,
        things_prototype=set(pseudo.thing_ids) if separate else None,
        stuffs_prototype=set(pseudo.stuff_ids) if separate else None,
        classes_mask=classes.evaluated,
        void_rule=config.VALIDATION.VOID_RULE,
        void=pseudo.void,
        assignment=assignment,
    )
