"""Running a network over frames: predictions on disk, scores, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from cups.data.utils import image_array, with_void
from cups.io.coco_panoptic import read_panoptic, write_panoptic
from cups.io.png import write_png
from cups.metrics import PanopticQualitySemanticMatching
from cups.model import panoptic_from_output
from cups.taxonomy import VOID, ClassSet, void_value
from cups.visualization import figure_sheet, overlay, pseudo_palette


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says about one frame.

    Attributes:
        panoptic: (H, W, 2) int64 (category, instance), see `cups.model.panoptic_from_output`.
        semantic: (H, W) int64 channel of the semantic head: 0 "some thing", 1..S stuff.
    """

    panoptic: Tensor
    semantic: Tensor


Visitor = Callable[[dict[str, Any], Prediction], None]
"""Called with each frame and its prediction."""


@torch.inference_mode()
def predict(
    model: nn.Module,
    batches: Iterable[list[dict[str, Any]]],
    num_stuffs: int,
    visitors: Sequence[Visitor],
    total: int,
    void: int = VOID,
) -> None:
    """Run a network over all batches and hand each frame's prediction to the visitors.

    Args:
        model: panoptic network; it is put in evaluation mode.
        batches: lists of `{"image": (3, H, W), "name": str, ...}`.
        num_stuffs: number of stuff categories S; things start there.
        total: number of batches, for the progress bar.
        void: category of void; with T things, `void_value(S + T)`.
    """
    model.eval()
    for batch in tqdm(batches, total=total, desc="predict", unit="batch"):
        images = [item["image"] for item in batch]
        outputs = model([{"image": i, "height": i.shape[-2], "width": i.shape[-1]} for i in images])
        for item, output in zip(batch, outputs, strict=True):
            panoptic = panoptic_from_output(output, num_stuffs, void)
            prediction = Prediction(panoptic, output["sem_seg"].argmax(dim=0))
            for visit in visitors:
                visit(item, prediction)


def score_with(metric: PanopticQualitySemanticMatching) -> Visitor:
    """Return a visitor that adds each frame with ground truth to `metric`."""

    def visit(item: dict[str, Any], prediction: Prediction) -> None:
        metric.update(prediction.panoptic[None].cpu(), with_void(item["target"], metric.void)[None])

    return visit


def save_to(folder: Path, num_categories: int) -> Visitor:
    """Return a visitor that writes each prediction as `{name}.png`, see `cups.io.coco_panoptic`."""
    void = void_value(num_categories)

    def visit(item: dict[str, Any], prediction: Prediction) -> None:
        write_panoptic(folder / f"{item['name']}.png", prediction.panoptic.cpu().numpy(), void)

    return visit


def to_classes(prediction: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Map the categories of (H, W, 2) to classes by `assignment` (K,); void becomes 255."""
    void = void_value(len(assignment))
    category = np.where(prediction[..., 0] == void, len(assignment), prediction[..., 0])
    return np.stack((np.append(assignment, VOID)[category], prediction[..., 1]), axis=-1)


def write_overlays(
    dataset: Dataset[dict[str, Any]],
    predictions: Path,
    folder: Path,
    num_categories: int,
    classes: ClassSet | None = None,
    assignment: np.ndarray | None = None,
) -> None:
    """Write one picture a frame: image, prediction and, where known, ground truth.

    With an assignment the prediction wears the colours of the matched classes, else those of its
    pseudo-classes.
    """
    palette = pseudo_palette(num_categories)
    for index in tqdm(range(len(dataset)), desc="pictures", unit="img"):  # type: ignore[arg-type]
        item = dataset[index]
        image = image_array(item["image"])
        prediction = read_panoptic(predictions / f"{item['name']}.png", void_value(num_categories))
        columns, panels = ["image", "prediction"], [image]
        if classes is not None and assignment is not None:
            panels.append(overlay(image, to_classes(prediction, assignment), classes.colors))
            panels.append(overlay(image, item["target"].numpy(), classes.colors))
            columns.append("ground truth")
        else:
            panels.append(overlay(image, prediction, palette))
        write_png(folder / f"{item['name']}.png", figure_sheet(columns, [panels]))
