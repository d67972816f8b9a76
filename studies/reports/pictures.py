"""Pictures of the reports: a few frames, each set of pseudo-labels in the colours of its matched classes."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from cups.data.cityscapes import GroundTruthFrame, list_ground_truth_frames, read_panoptic_target
from cups.evaluation.predict import to_classes
from cups.evaluation.results import Result
from cups.io.coco_panoptic import read_panoptic
from cups.io.files import atomic_write
from cups.io.png import read_ids, read_image
from cups.ops.panoptic import to_panoptic
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import class_set, void_value
from cups.visualization import figure_sheet, overlay
from studies.reports.text import NOT_RUN
from studies.toy_runs import ToyRuns

MAX_BYTES = 300_000
"""Size limit of a picture in the repository."""


def write_jpeg(path: Path, picture: np.ndarray, max_bytes: int = MAX_BYTES) -> None:
    """Write (H, W, 3) uint8 as JPEG, at the best quality that stays under `max_bytes`.

    Raises:
        ValueError: too large even at quality 40.
    """
    encoded = (_jpeg(picture, quality) for quality in (90, 80, 70, 60, 50, 40))
    data = next((data for data in encoded if len(data) <= max_bytes), None)
    if data is None:
        raise ValueError(f"{path}: {picture.shape} needs more than {max_bytes} bytes; draw fewer tiles")
    atomic_write(path, lambda temporary: temporary.write_bytes(data))


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def label_classes(root: Path, result: Result, frame: GroundTruthFrame) -> PanopticMap:
    """Return classes and instances of a frame's pseudo-labels, as the evaluation matched them."""
    config = result.config
    relative = Path(config["split"]) / frame.image.parent.name / f"{frame.stem}.png"
    semantic = read_ids(root / config["semantic_subdir"] / relative)
    instances = config.get("instance_subdir")
    instance = read_ids(root / instances / relative) if instances else np.zeros_like(semantic)
    things = config.get("things", ()) if instances else ()
    panoptic = to_panoptic(semantic, instance, things, int(config["num_semantic_classes"]))
    return to_classes(panoptic, np.array(result.assignment))


def predicted_classes(folder: Path, result: Result, frame: GroundTruthFrame) -> PanopticMap:
    """Return classes and instances of a saved prediction, as the evaluation matched it."""
    void = void_value(len(result.assignment))
    prediction = read_panoptic(folder / f"{frame.stem}.png", void)
    return to_classes(prediction, np.array(result.assignment))


def label_sheet(
    runs: ToyRuns, seed: int, variants: Sequence[tuple[str, str]], count: int = 3
) -> np.ndarray | None:
    """Draw validation frames: image, the variants that were run, ground truth.

    Args:
        variants: (column, name of the result file).

    Returns:
        (H, W, 3) uint8, or None where no variant was run.
    """
    found = {name: runs.results(file)[seed] for name, file in variants if seed in runs.results(file)}
    columns = {name: partial(label_classes, runs.root(seed), result) for name, result in found.items()}
    return class_sheet(runs, columns, count) if columns else None


def class_sheet(
    runs: ToyRuns, columns: Mapping[str, Callable[[GroundTruthFrame], PanopticMap]], count: int = 3
) -> np.ndarray:
    """Draw validation frames: image, `columns`, ground truth, in the colours of the classes.

    Args:
        columns: header -> function that returns classes and instances of a frame.

    Returns:
        (H, W, 3) uint8.
    """
    classes = class_set(19)
    frames = list_ground_truth_frames(runs.data, "val")
    rows = []
    for frame in frames[:: max(1, len(frames) // count)][:count]:
        image = read_image(frame.image)
        maps = [classes_of(frame) for classes_of in columns.values()]
        maps.append(read_panoptic_target(frame.label_ids, frame.instance_ids, classes))
        rows.append([image, *(overlay(image, panoptic, classes.colors) for panoptic in maps)])
    return figure_sheet(("image", *columns, "ground truth"), rows, legend=legend(), tile_width=300)


def legend() -> list[tuple[str, list[int]]]:
    """Return names and colours of the classes."""
    classes = class_set(19)
    return list(zip(classes.names, classes.colors.tolist(), strict=True))


def picture_link(name: str, text: str, drawn: Collection[str]) -> str:
    """Return the Markdown of a picture in `figures/`, or that it was not run."""
    return f"![{text}](figures/{name}.jpg)" if name in drawn else f"*{text}: {NOT_RUN}.*"
