"""Running a network over images: predictions on disk, scores, pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from cups.data.utils import image_array
from cups.evaluation.background import in_background, map_in_threads, read_ahead
from cups.io.coco_panoptic import read_panoptic, write_panoptic
from cups.io.png import write_png
from cups.model.inputs import decided_maps, inference_inputs, panoptic_map_from_output
from cups.ops.panoptic_map import PanopticMap
from cups.structures import LoadedImage, Prediction, PseudoClasses
from cups.taxonomy import VOID, ClassSet, void_value
from cups.visualization import figure_sheet, overlay

if TYPE_CHECKING:  # who only predicts does not wait for torchmetrics
    from cups.metrics import PanopticQualitySemanticMatching

Visitor = Callable[[LoadedImage, Prediction], None]
"""Called with each image and its prediction."""
THREADS = min(8, os.cpu_count() or 1)
"""Pictures that are drawn at a time."""


def predict(
    model: nn.Module,
    batches: Iterable[list[LoadedImage]],
    pseudo: PseudoClasses,
    visitors: Sequence[Visitor],
    total: int,
) -> None:
    """Run a network over all batches and hand each image's prediction to the visitors.

    A batch is read while the network runs on the one before. Each visitor sees all images, in their order, in
    a thread of its own, so that scores are counted and files written while the network runs, too.

    Args:
        model: panoptic network; it is put in evaluation mode.
        pseudo: its pseudo-classes.
        total: number of batches, for the progress bar.

    Raises:
        Exception: what a visitor raised.
    """
    model.eval()
    coming = read_ahead(batches)
    with closing(coming), in_background(visitors) as background:
        for batch in tqdm(coming, total=total, desc="predict", unit="batch"):
            for loaded, output in zip(batch, maps_of(model, batch), strict=True):
                panoptic = panoptic_map_from_output(output, pseudo)
                background.add(loaded, Prediction(panoptic, output["semantic"]))


@torch.inference_mode()
def maps_of(model: nn.Module, batch: Sequence[LoadedImage]) -> list[dict[str, Any]]:
    """Return `semantic` and `panoptic_seg` of each image: from `predict_maps` of networks that have it."""
    inputs = inference_inputs([loaded.image for loaded in batch])
    lean: Any = getattr(model, "predict_maps", None)
    if lean is not None:
        return list(lean(inputs))
    return [decided_maps(output) for output in model(inputs)]


def score_with(metric: PanopticQualitySemanticMatching, names: list[str] | None = None) -> Visitor:
    """Return a visitor that adds each image with ground truth to `metric`, and its name to `names`."""

    def visit(loaded: LoadedImage, prediction: Prediction) -> None:
        metric.update([prediction.panoptic], [loaded.ground_truth(metric.void)])
        if names is not None:
            names.append(loaded.name)

    return visit


def save_to(folder: Path, pseudo: PseudoClasses) -> Visitor:
    """Return a visitor that writes each prediction as `{name}.png`, see `cups.io.coco_panoptic`."""

    def visit(loaded: LoadedImage, prediction: Prediction) -> None:
        write_panoptic(folder / f"{loaded.name}.png", prediction.panoptic, pseudo.void)

    return visit


def to_classes(prediction: PanopticMap, assignment: np.ndarray) -> PanopticMap:
    """Map categories to classes by `assignment` (K,); void becomes 255."""
    void = void_value(len(assignment))
    category = np.where(prediction.category == void, len(assignment), prediction.category)
    return prediction.with_category(np.append(assignment, VOID)[category])


def write_overlays(
    dataset: Dataset[LoadedImage],
    predictions: Path,
    folder: Path,
    pseudo: PseudoClasses,
    classes: ClassSet,
    assignment: np.ndarray,
) -> None:
    """Write one picture an image: itself, prediction and ground truth in the colours of the classes."""

    def draw(index: int) -> None:
        loaded = dataset[index]
        image = image_array(loaded.image)
        prediction = read_panoptic(predictions / f"{loaded.name}.png", pseudo.void)
        panels = [
            image,
            overlay(image, to_classes(prediction, assignment), classes.colors),
            overlay(image, loaded.ground_truth(), classes.colors),
        ]
        sheet = figure_sheet(["image", "prediction", "ground truth"], [panels])
        write_png(folder / f"{loaded.name}.png", sheet)

    total = len(dataset)  # type: ignore[arg-type]
    for _ in tqdm(map_in_threads(draw, range(total), THREADS), "pictures", total, unit="img"):
        pass
