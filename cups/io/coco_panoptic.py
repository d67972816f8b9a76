"""COCO panoptic files: PNG segment ids, one JSON for a set of images (Kirillov et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cups.io.files import write_json
from cups.io.png import read_image, write_png
from cups.ops.panoptic_map import PanopticMap, as_panoptic_map, number_runs, number_values
from cups.ops.runs import changes, first_pixels
from cups.taxonomy import VOID

SEGMENT_FACTOR = 1000
"""Segment id = (category + 1) * 1000 + number of the object in its category; number 0 is stuff, id 0 is void.
A PNG therefore tells its categories by itself, and the JSON can be rebuilt from the files of any number of
processes."""
RGB = 0xFFFFFF
"""The three bytes of an id."""


def segment_ids(panoptic: PanopticMap, void: int = VOID) -> np.ndarray:
    """Return (S,) int64 segment id of each row of a map's table, see `SEGMENT_FACTOR`; void is 0.

    The objects of a category are numbered 1, 2, ... in the order of their instances.

    Args:
        panoptic: the pixels of one instance are of one category.
        void: the category that is none.

    Raises:
        ValueError: 1000 or more objects of one category.
    """
    is_object = (panoptic.instance > 0) & (panoptic.category != void) & (panoptic.areas > 0)
    numbers = np.zeros(len(is_object), dtype=np.int64)
    count: dict[int, int] = {}
    known: dict[tuple[int, int], int] = {}
    for row in np.flatnonzero(is_object)[np.argsort(panoptic.instance[is_object], kind="stable")].tolist():
        category, instance = int(panoptic.category[row]), int(panoptic.instance[row])
        if (category, instance) not in known:
            known[category, instance] = count[category] = count.get(category, 0) + 1
        numbers[row] = known[category, instance]
    if max(count.values(), default=0) >= SEGMENT_FACTOR:
        raise ValueError(f"{max(count.values())} objects of one class in an image, at most 999 fit")
    return np.where(panoptic.category == void, 0, (panoptic.category + 1) * SEGMENT_FACTOR + numbers)


def to_rgb(segments: np.ndarray) -> np.ndarray:
    """Encode segment ids as COCO does: (H, W) -> (H, W, 3) uint8, id = R + 256 G + 65536 B."""
    parts = np.ascontiguousarray(segments, dtype="<u4").view(np.uint8).reshape(*segments.shape, 4)
    return cv2.cvtColor(parts, cv2.COLOR_RGBA2RGB)


def from_rgb(pixels: np.ndarray) -> np.ndarray:
    """Decode COCO panoptic pixels: (H, W, 3) uint8 RGB -> (H, W) int32 segment ids."""
    segments = _in_words(pixels)
    segments &= RGB
    return segments


def _in_words(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W) int32 whose lower three bytes are the pixel, and whose highest is 255."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA).view("<i4")[..., 0]


def number_colours(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the segments of COCO panoptic pixels, (H, W, 3) uint8 RGB, a run at a time.

    Returns:
        (numbers, ids, starts): (H, W) place of each pixel's id among the ids that occur, (S,) int64 and
        rising; and the first pixels of runs, as in `PanopticMap`.
    """
    # The fourth byte is the same everywhere: it tells no run, and is cut off one value of each.
    words = _in_words(pixels).reshape(-1)
    starts = first_pixels(changes(words))
    ids = (words[starts] & RGB).astype(np.int64)
    return *number_runs(starts, ids, pixels.shape[:2]), starts


def from_colours(pixels: np.ndarray, void: int = VOID) -> PanopticMap:
    """Return the map of (H, W, 3) uint8 RGB, see `SEGMENT_FACTOR`; objects are numbered over categories."""
    numbers, ids, starts = number_colours(pixels)
    category = np.where(ids == 0, void, ids // SEGMENT_FACTOR - 1)
    instance = np.where(ids % SEGMENT_FACTOR > 0, np.arange(1, len(ids) + 1), 0)
    return PanopticMap(numbers, category, instance, starts)


def write_panoptic(path: Path, panoptic: PanopticMap | np.ndarray, void: int = VOID) -> None:
    """Write a panoptic map, or (H, W, 2) integer (category, instance), as a COCO panoptic PNG.

    Raises:
        ValueError: 1000 or more objects of one category.
    """
    panoptic = as_panoptic_map(panoptic)
    write_png(path, to_rgb(segment_ids(panoptic, void)[panoptic.ids]))


def read_panoptic(path: Path, void: int = VOID) -> PanopticMap:
    """Read what `write_panoptic` wrote.

    Raises:
        UserError: missing, truncated or undecodable file.
    """
    return from_colours(read_image(path), void)


def describe_segments(segments: np.ndarray) -> list[dict[str, Any]]:
    """Return COCO `segments_info` of a segment map; `bbox` is (x, y, width, height)."""
    return [
        {
            "id": segment,
            "category_id": segment // SEGMENT_FACTOR - 1,
            "area": area,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
        }
        for segment, area, (left, top, right, bottom) in segment_boxes(segments)
    ]


def segment_boxes(segments: np.ndarray) -> list[tuple[int, int, tuple[int, int, int, int]]]:
    """Return id, area and box (left, top, right, bottom; far sides exclusive) of each segment but void."""
    numbers, ids = number_values(segments)
    areas = np.bincount(numbers.ravel())
    low, high = _extents(numbers, len(ids))
    return [
        (
            int(ids[i]),
            int(areas[i]),
            (int(low[i, 1]), int(low[i, 0]), int(high[i, 1]) + 1, int(high[i, 0]) + 1),
        )
        for i in np.flatnonzero(ids)
    ]


def _extents(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest (row, column) of each label 0..count-1: two (count, 2) int64."""
    height, width = labels.shape
    low, high = np.empty((count, 2), np.int64), np.empty((count, 2), np.int64)
    for axis, length in ((0, height), (1, width)):
        coordinate = np.arange(length).reshape(-1, 1) if axis == 0 else np.arange(length)
        present = np.zeros((count, length), dtype=bool)
        present[labels, np.broadcast_to(coordinate, labels.shape)] = True
        low[:, axis] = present.argmax(axis=1)
        high[:, axis] = length - 1 - present[:, ::-1].argmax(axis=1)
    return low, high


@dataclass(frozen=True)
class PanopticFile:
    """One image of a set: its file name, and its panoptic PNG relative to the set's folder."""

    image: str
    png: str


def categories_of(names: Sequence[str], things: Iterable[int]) -> list[dict[str, Any]]:
    """Return COCO `categories`; ids are positions in `names`."""
    things = set(things)
    return [
        {"id": i, "name": name, "supercategory": name, "isthing": int(i in things)}
        for i, name in enumerate(names)
    ]


def write_panoptic_json(
    path: Path, folder: Path, files: Iterable[PanopticFile], categories: Sequence[dict[str, Any]]
) -> None:
    """Write the JSON of a set of panoptic PNG files in `folder`, atomically.

    Images are numbered 1, 2, ... in their order: readers of others (detectron2's) want a number.
    """
    images, annotations = [], []
    for number, file in enumerate(files, start=1):
        segments = from_rgb(read_image(folder / file.png))
        height, width = segments.shape
        images.append({"id": number, "file_name": file.image, "height": height, "width": width})
        info = describe_segments(segments)
        annotations.append({"image_id": number, "file_name": file.png, "segments_info": info})
    content = {"images": images, "annotations": annotations, "categories": list(categories)}
    write_json(path, content, indent=None)
