"""Street-like panoptic maps and their flawed predictions, in memory and as COCO files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cups.io.coco_panoptic import number_colours
from cups.io.files import write_json
from cups.io.png import read_image
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import VOID, class_set
from studies.benchmarks.settings import QualitySettings

CLASSES = class_set(19)
Maps = list[tuple[np.ndarray, np.ndarray]]
HORIZON = 0.45


def street(height: int, width: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """Return an (H, W, 2) int64 map: wavy stuff bands, things that grow towards the viewer, a crowd, void."""
    panoptic = np.zeros((height, width, 2), dtype=np.int64)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    for share, stuff in ((0.0, 10), (0.15, 8), (0.25, 2), (0.42, 9), (0.5, 1), (0.6, 0)):
        phase = columns / width * rng.uniform(5, 60) + rng.uniform(0, 6)
        wave = np.sin(phase) * height * rng.uniform(0.01, 0.05)
        panoptic[rows >= share * height + wave] = (stuff, 0)
    things = segments - len(CLASSES.stuffs)
    for instance, depth in enumerate(np.sort(rng.uniform(0, 1, max(things, 1))), start=1):
        side = height * (0.02 + 0.2 * depth**2)
        center = (height * (HORIZON + 0.4 * depth), rng.uniform(0, width))
        category = int(rng.choice(CLASSES.things))
        _ellipse(panoptic, center, (side, side * rng.uniform(0.4, 2)), (category, instance))
    for category in (3, 4, 5, 6, 7):
        center = (height * rng.uniform(0.2, 0.5), rng.uniform(0, width))
        _ellipse(panoptic, center, (height * rng.uniform(0.02, 0.1), height * 0.03), (category, 0))
    _ellipse(panoptic, (height * 0.5, rng.uniform(0, width)), (height * 0.06, height * 0.12), (11, 0))
    panoptic[int(height * 0.95) :] = (VOID, 0)
    return panoptic


def _ellipse(
    panoptic: np.ndarray, center: tuple[float, float], radii: tuple[float, float], value: tuple[int, int]
) -> None:
    height, width = panoptic.shape[:2]
    top, left = (max(int(c - r), 0) for c, r in zip(center, radii, strict=True))
    bottom, right = min(int(center[0] + radii[0]) + 1, height), min(int(center[1] + radii[1]) + 1, width)
    rows, columns = np.arange(top, bottom)[:, None], np.arange(left, right)[None]
    inside = ((rows - center[0]) / radii[0]) ** 2 + ((columns - center[1]) / radii[1]) ** 2 < 1
    panoptic[top:bottom, left:right][inside] = value


def imperfect(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a prediction: shifted borders, some objects lost, confused or void, no crowd known as one."""
    shift = max(1, target.shape[0] // 200)
    pred = np.roll(target, (shift, -2 * shift), axis=(0, 1))
    pred[target.shape[0] * 19 // 20 :] = (0, 0)
    for instance in range(1, int(target[..., 1].max()) + 1):
        choice, where = rng.random(), pred[..., 1] == instance
        if choice < 0.25:
            pred[where] = ((VOID, 0), (2, 0), (int(rng.choice(CLASSES.things)), instance))[int(choice * 12)]
    pred[(pred[..., 0] == 11) & (pred[..., 1] == 0)] = (11, 10_000)
    return pred


def scenes(settings: QualitySettings, noise: float = 0.0) -> Maps:
    """Return (prediction, target) pairs, the same in every process.

    noise: share of predicted pixels that take what some other pixel of the map has.
    """
    rng = np.random.default_rng(settings.seed)
    size = settings.height, settings.width
    targets = [street(*size, settings.segments, rng) for _ in range(settings.images)]
    maps = [(imperfect(target, rng), target) for target in targets]
    for pred, _ in maps:
        hit = rng.random(size) < noise
        pred[hit] = pred.reshape(-1, 2)[rng.integers(0, hit.size, np.count_nonzero(hit))]
    return maps


ID_FACTOR = 20_000
"""Segment id in the PNG = (category + 1) * ID_FACTOR + instance; 0 is void."""


def write_coco(maps: Maps, root: Path) -> None:
    """Write {pred,target}.json and the folders of panoptic PNG beside them."""
    categories = [
        {"id": index + 1, "name": name, "isthing": int(index in CLASSES.things)}
        for index, name in enumerate(CLASSES.names)
    ]
    height, width = maps[0][0].shape[:2]
    images = [
        {"id": index, "file_name": f"{index}.png", "height": height, "width": width}
        for index in range(len(maps))
    ]
    for part, name in enumerate(("pred", "target")):
        (root / name).mkdir()
        annotations = []
        for index, pair in enumerate(maps):
            category, instance = pair[part][..., 0], pair[part][..., 1]
            ids = np.where(category == VOID, 0, (category + 1) * ID_FACTOR + instance)
            bgr = np.stack((ids >> 16, ids >> 8 & 255, ids & 255), axis=-1).astype(np.uint8)
            cv2.imwrite(str(root / name / f"{index}.png"), bgr)
            numbered = zip(*(column.tolist() for column in np.unique(ids, return_counts=True)), strict=True)
            segments = [_segment(segment, area, name) for segment, area in numbered if segment]
            annotations.append({"image_id": index, "file_name": f"{index}.png", "segments_info": segments})
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_json(root / f"{name}.json", content, indent=None)


def _segment(segment_id: int, area: int, name: str) -> dict[str, int]:
    category, instance = segment_id // ID_FACTOR - 1, segment_id % ID_FACTOR
    crowd = name == "target" and category in CLASSES.things and instance == 0
    return {"id": segment_id, "category_id": category + 1, "area": area, "iscrowd": int(crowd)}


def read_coco(root: Path, name: str, index: int) -> PanopticMap:
    """Read one PNG of `write_coco`."""
    numbers, ids, starts = number_colours(read_image(root / name / f"{index}.png"))
    return PanopticMap(numbers, np.where(ids == 0, VOID, ids // ID_FACTOR - 1), ids % ID_FACTOR, starts)
