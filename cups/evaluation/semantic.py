"""Semantic scores from pixel counts: size and crop of a protocol, then results under both void rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cups.evaluation.results import Result
from cups.metrics import ConfusionMatrix, mapped_confusion, semantic_quality
from cups.metrics.protocol import VOID_RULES, Protocol
from cups.ops.matching import hungarian_assignment
from cups.ops.resize import center_crop_or_pad, resize_ids
from cups.structures import LoadedImage, Prediction
from cups.taxonomy import VOID, ClassSet, void_value


def to_protocol(ids: Tensor, protocol: Protocol, fill: int) -> Tensor:
    """Bring (H, W) ids of image size to the size and crop of a protocol.

    A crop is taken after the short side was resized to it, as Hamilton et al. (STEGO, ICLR 2022) do.
    """
    if protocol.crop is None:
        return ids if protocol.size is None else resize_ids(ids, protocol.size)
    height, width = ids.shape
    short = min(height, width)
    size = (protocol.crop * height // short, protocol.crop * width // short)
    return center_crop_or_pad(resize_ids(ids, size), (protocol.crop, protocol.crop), fill)


def results_of_counts(
    name: str, counts: np.ndarray, assignment: np.ndarray, protocol: Protocol, **rest: Any
) -> list[Result]:
    """Make one Result (mIoU, accuracy) per void rule.

    Args:
        name: what was evaluated.
        counts: (K + 1, C) pixels as in `cups.metrics.ConfusionMatrix`.
        assignment: (K,) class of each cluster, -1 for none.
        protocol: what was evaluated how; its void rule is replaced by that of each result.
        rest: further fields of `Result`.
    """
    results, evaluated = [], protocol.classes.evaluated
    for rule in VOID_RULES:
        quality = semantic_quality(counts, assignment, void_rule=rule, classes_mask=evaluated)
        results.append(
            Result(
                name,
                {"miou": quality.miou, "accuracy": quality.accuracy},
                str(replace(protocol, void_rule=rule)),
                rule,
                np.where(assignment < 0, VOID, assignment).tolist(),
                per_class=_class_scores(counts, assignment, quality.iou_per_class, protocol.classes),
                **rest,
            )
        )
    return results


def _class_scores(
    counts: np.ndarray, assignment: np.ndarray, iou: np.ndarray, classes: ClassSet
) -> dict[str, dict[str, Any]]:
    """Return {class name: {"kind", "iou"}}; nan for a class that neither side has."""
    mapped = mapped_confusion(counts, assignment)
    occurs = mapped.sum(axis=0) + mapped[:-1].sum(axis=1) > 0
    return {
        name: {
            "kind": "thing" if index in classes.things else "stuff",
            "iou": float(iou[index]) if occurs[index] else float("nan"),
        }
        for index, name in enumerate(classes.names)
    }


class SemanticScorer:
    """Visitor that counts one semantic map of each frame against the classes, under a semantic protocol.

    Args:
        name: what the map is, for the results.
        protocol: size, crop and classes.
        num_clusters: K; the map holds 0..K-1, and `void_value(K)` for void.
        select: returns the (H, W) map of a prediction.
    """

    def __init__(
        self, name: str, protocol: Protocol, num_clusters: int, select: Callable[[Prediction], Tensor]
    ) -> None:
        self.name = name
        self.protocol = protocol
        self.select = select
        self.void = void_value(num_clusters)
        self.confusion = ConfusionMatrix(num_clusters, protocol.num_classes, void=self.void)

    def __call__(self, loaded: LoadedImage, prediction: Prediction) -> None:
        """Count one image."""
        truth = torch.from_numpy(loaded.ground_truth(self.void).categories)
        maps = (self.select(prediction).cpu(), truth)
        pred, target = (to_protocol(ids, self.protocol, self.void).numpy() for ids in maps)
        self.confusion.update(pred, target)

    def results(self, run: str, **rest: Any) -> list[Result]:
        """Return one Result per void rule, after a Hungarian matching; `rest`: further fields of `Result`."""
        counts = self.confusion.counts
        assignment = hungarian_assignment(counts[:-1])
        return results_of_counts(f"{run}, {self.name}", counts, assignment, self.protocol, **rest)
