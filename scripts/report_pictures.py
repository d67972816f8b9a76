"""Pictures of the reports: a few frames, each set of pseudo-labels in the colours of its matched classes."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from report_text import NOT_RUN
from toy_runs import ToyRuns

from cups.data.cityscapes import GroundTruthFrame, list_ground_truth_frames, read_panoptic_target
from cups.evaluation import to_classes
from cups.ops.png import atomic_write, read_ids, read_image
from cups.reporting import Result
from cups.taxonomy import class_set
from cups.visualization import figure_sheet, overlay
from pseudo_labels.evaluation.engine import to_panoptic

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


def label_classes(root: Path, result: Result, frame: GroundTruthFrame) -> np.ndarray:
    """Return (H, W, 2) classes and instances of a frame's pseudo-labels, as the evaluation matched them."""
    config = result.config
    relative = Path(config["split"]) / frame.image.parent.name / f"{frame.stem}.png"
    semantic = read_ids(root / config["semantic_subdir"] / relative)
    instances = config.get("instance_subdir")
    instance = read_ids(root / instances / relative) if instances else np.zeros_like(semantic)
    things = config.get("things", ()) if instances else ()
    panoptic = to_panoptic(semantic, instance, things, int(config["num_semantic_classes"]))
    return to_classes(panoptic, np.array(result.assignment))


def label_sheet(
    runs: ToyRuns, seed: int, variants: Sequence[tuple[str, str]], count: int = 3
) -> np.ndarray | None:
    """Draw validation frames: image, the variants that were run, ground truth.

    Args:
        variants: (column, name of the result file).

    Returns:
        (H, W, 3) uint8, or None where no variant was run.
    """
    found = [(name, runs.results(file)[seed]) for name, file in variants if seed in runs.results(file)]
    if not found:
        return None
    classes = class_set(19)
    frames = list_ground_truth_frames(runs.data, "val")
    rows = []
    for frame in frames[:: max(1, len(frames) // count)][:count]:
        image = read_image(frame.image)
        maps = [label_classes(runs.root(seed), result, frame) for _, result in found]
        maps.append(read_panoptic_target(frame.label_ids, frame.instance_ids, classes))
        rows.append([image, *(overlay(image, panoptic, classes.colors) for panoptic in maps)])
    columns = ("image", *(name for name, _ in found), "ground truth")
    legend = list(zip(classes.names, classes.colors.tolist(), strict=True))
    return figure_sheet(columns, rows, legend=legend, tile_width=300)


def picture_link(name: str, text: str, drawn: Collection[str]) -> str:
    """Return the Markdown of a picture in `figures/`, or that it was not run."""
    return f"![{text}](figures/{name}.jpg)" if name in drawn else f"*{text}: {NOT_RUN}.*"
