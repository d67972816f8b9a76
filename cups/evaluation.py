"""Running a network over frames: predictions on disk, scores, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from cups.data.utils import image_array
from cups.metrics import PanopticQualitySemanticMatching
from cups.model import panoptic_from_output
from cups.ops.png import read_image, write_png
from cups.taxonomy import VOID, ClassSet
from cups.visualization import figure_sheet, overlay, pseudo_palette

Visitor = Callable[[dict[str, Any], Tensor], None]
"""Called with each frame and its prediction (H, W, 2)."""


@torch.inference_mode()
def predict(
    model: nn.Module,
    batches: Iterable[list[dict[str, Any]]],
    num_stuffs: int,
    visitors: Sequence[Visitor],
    total: int,
) -> None:
    """Run a network over all batches and hand each frame's panoptic map to the visitors.

    Args:
        model: panoptic network; it is put in evaluation mode.
        batches: lists of `{"image": (3, H, W), "name": str, ...}`.
        num_stuffs: number of stuff categories S; things start there.
        total: number of batches, for the progress bar.
    """
    model.eval()
    for batch in tqdm(batches, total=total, desc="predict", unit="batch"):
        images = [item["image"] for item in batch]
        outputs = model([{"image": i, "height": i.shape[-2], "width": i.shape[-1]} for i in images])
        for item, output in zip(batch, outputs, strict=True):
            prediction = panoptic_from_output(output, num_stuffs)
            for visit in visitors:
                visit(item, prediction)


def score_with(metric: PanopticQualitySemanticMatching) -> Visitor:
    """Return a visitor that adds each frame with ground truth to `metric`."""

    def visit(item: dict[str, Any], prediction: Tensor) -> None:
        metric.update(prediction[None].cpu(), item["target"][None])

    return visit


def save_to(folder: Path) -> Visitor:
    """Return a visitor that writes each prediction as `{name}.png`, see `write_prediction`."""

    def visit(item: dict[str, Any], prediction: Tensor) -> None:
        write_prediction(folder / f"{item['name']}.png", prediction.cpu().numpy())

    return visit


def write_prediction(path: Path, panoptic: np.ndarray) -> None:
    """Write (H, W, 2) as an RGB PNG: red is the category (255 void), green + 256 * blue the instance."""
    category, instance = panoptic[..., 0], panoptic[..., 1]
    write_png(path, np.stack((category, instance % 256, instance // 256), axis=-1).astype(np.uint8))


def read_prediction(path: Path) -> np.ndarray:
    """Read what `write_prediction` wrote: (H, W, 2) int64."""
    red, green, blue = np.moveaxis(read_image(path).astype(np.int64), -1, 0)
    return np.stack((red, green + 256 * blue), axis=-1)


def to_classes(prediction: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Map the categories of (H, W, 2) to classes by `assignment` (K,); void stays 255."""
    table = np.full(VOID + 1, VOID, dtype=np.int64)
    table[: len(assignment)] = assignment
    return np.stack((table[prediction[..., 0]], prediction[..., 1]), axis=-1)


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
        prediction = read_prediction(predictions / f"{item['name']}.png")
        columns, panels = ["image", "prediction"], [image]
        if classes is not None and assignment is not None:
            panels.append(overlay(image, to_classes(prediction, assignment), classes.colors))
            panels.append(overlay(image, item["target"].numpy(), classes.colors))
            columns.append("ground truth")
        else:
            panels.append(overlay(image, prediction, palette))
        write_png(folder / f"{item['name']}.png", figure_sheet(columns, [panels]))
