"""Predictions, semantic scores and class maps, by hand and on a tiny city."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.builders.evaluation import (
    build_metric,
    build_semantic_scorers,
    build_validation_data,
    panoptic_protocol,
    semantic_protocols,
)
from cups.config import build_config
from cups.data.utils import identity_collate
from cups.evaluation.predict import predict, save_to, score_with, to_classes
from cups.evaluation.semantic import SemanticScorer
from cups.io.coco_panoptic import read_panoptic
from cups.metrics.protocol import NAMED, Protocol
from cups.ops.panoptic_map import PanopticMap
from cups.structures import LoadedImage, Prediction, PseudoClasses
from cups.taxonomy import class_set


def run(oracle: Any, city: Path, *pairs: str) -> tuple[Any, list[Any]]:
    """Return the metric and the semantic scorers after a pass over the city."""
    scale = ("DATA.VAL_SCALE", "1.0", *pairs)
    config = build_config(None, scale, {"data_root": str(city)})
    data = build_validation_data(config)
    metric = build_metric(config, oracle.PSEUDO)
    scorers = build_semantic_scorers(config, oracle.PSEUDO)
    batches = [identity_collate([data[i]]) for i in range(len(data))]
    predict(oracle, batches, oracle.PSEUDO, [score_with(metric), *scorers], len(batches))
    return metric, scorers


@pytest.mark.parametrize("num_classes", [27, 19, 7])
def test_predict__each_class_set(oracle: Any, tiny_city: Path, num_classes: int) -> None:
    """27 classes are more than the 21 pseudo-classes: upstream's assertion made that a crash."""
    metric, scorers = run(oracle, tiny_city, "DATA.NUM_CLASSES", str(num_classes))
    scores = metric.compute()
    classes = class_set(num_classes)
    assert len(scores["pq_per_class"]) == num_classes and len(scores["assignment"]) == 21
    assert set(scores["assignment"][:12].tolist()) <= {*classes.stuffs, 255}
    assert set(scores["assignment"][12:].tolist()) <= {*classes.things, 255}
    assert 0.3 < scores["pq"] < 1
    result = scorers[0].results("run")[0]
    assert len(result.per_class) == num_classes and 0 < result.metrics["miou"] < 1


def test_predict__semantic_head_is_scored_without_the_void_of_the_merge(oracle: Any, tiny_city: Path) -> None:
    """Rows that the panoptic output leaves void have a label in the semantic head."""
    crop = ("VALIDATION.SEMSEG_CENTER_CROP_SIZE", "96")
    _, scorers = run(oracle, tiny_city, *crop)
    names = [scorer.name for scorer in scorers]
    assert names == ["semantic head", "panoptic output (crop 96)", "semantic head (crop 96)"]
    whole, panoptic, cropped = (scorer.confusion.counts for scorer in scorers)
    assert whole[-1].sum() == 0 and cropped[-1].sum() == 0 and panoptic[-1].sum() > 0
    assert whole.sum() > cropped.sum() == panoptic.sum() > 0


def test_semantic_protocols__centre_crop_is_the_named_one() -> None:
    pairs = ["DATA.NUM_CLASSES", "27", "VALIDATION.SEMSEG_CENTER_CROP_SIZE", "320", "DATA.VAL_SCALE", "1"]
    whole, crop = semantic_protocols(build_config(None, pairs))
    named = NAMED["semantic-27-crop320"]
    assert crop.name.startswith(f"{named.name} on cityscapes val")
    assert (crop.num_classes, crop.crop, crop.matching, crop.task) == (27, 320, "joint", "semantic")
    assert (whole.crop, whole.task) == (None, "semantic")


def test_panoptic_protocol__says_what_was_evaluated() -> None:
    pairs = ["DATA.DATASET", "kitti", "DATA.VAL_CROP_RESOLUTION", "(368, 1240)"]
    line = str(panoptic_protocol(build_config(None, [*pairs, "DATA.VAL_SCALE", "1"])))
    assert line.startswith("kitti val cropped to 368x1240: panoptic, 19 classes, full resolution,")
    assert "scale 0.5, " in str(panoptic_protocol(build_config(None, pairs)))


@pytest.mark.parametrize("clusters", [3, 300])
def test_semantic_scorer__counts_by_hand(clusters: int) -> None:
    void = 255 if clusters == 3 else 65535
    scorer = SemanticScorer(
        "x", Protocol("p", 7, matching="joint", task="semantic"), clusters, lambda p: p.semantic
    )
    semantic = torch.tensor([[0, 0, clusters - 1, void]])
    target = torch.tensor([[3, 3, 0, 0]])
    for truth in (torch.stack((target, torch.zeros_like(target)), dim=-1), torch.full((1, 4, 2), 255)):
        loaded = LoadedImage(torch.zeros(3, 1, 4), "a", PanopticMap.from_pairs(truth))
        scorer(loaded, Prediction(PanopticMap.from_pairs(np.zeros((1, 4, 2), int)), semantic))
    standard, upstream = scorer.results("run")
    assert standard.name == "run, x" and standard.assignment[0] == 3 and standard.assignment[-1] == 0
    assert standard.metrics == {"miou": 0.75, "accuracy": 0.75}
    assert upstream.metrics == {"miou": 1.0, "accuracy": 1.0}, "a void pixel is free"


@pytest.mark.parametrize("clusters", [3, 300])
def test_to_classes__void_and_clusters_without_a_class(clusters: int) -> None:
    assignment = np.full(clusters, 255)
    assignment[1] = 13
    void = 255 if clusters == 3 else 65535
    prediction = PanopticMap.from_pairs(np.array([[[1, 4], [2, 5], [void, 0]]]))
    assert to_classes(prediction, assignment).pairs.tolist() == [[[13, 4], [255, 5], [255, 0]]]


def test_save_to__reads_back(tmp_path: Path) -> None:
    panoptic = torch.tensor([[[299, 1], [0, 0], [65535, 0]]])
    loaded = LoadedImage(torch.zeros(3, 1, 3), "a/b")
    prediction = Prediction(PanopticMap.from_pairs(panoptic), panoptic[..., 0])
    save_to(tmp_path, PseudoClasses(things=10, stuffs=290))(loaded, prediction)
    back = read_panoptic(tmp_path / "a" / "b.png", 65535)
    assert back.categories.tolist() == [[299, 0, 65535]]
    assert (back.instances > 0).tolist() == [[True, False, False]]
