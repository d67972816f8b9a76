"""COCO panoptic files: PNG segment ids, one JSON for a set of images (Kirillov et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cups.io.files import write_json
from cups.io.png import read_image, write_png
from cups.taxonomy import VOID

SEGMENT_FACTOR = 1000
"""Segment id = (category + 1) * 1000 + number of the object in its category; number 0 is stuff, id 0 is void.
A PNG therefore tells its categories by itself, and the JSON can be rebuilt from the files of any number of
processes."""


def to_segments(category: np.ndarray, instance: np.ndarray, void: int = VOID) -> np.ndarray:
    """Return (H, W) int64 segment ids, see `SEGMENT_FACTOR`; void is 0.

    Args:
        category: (H, W) integers, `void` for no category.
        instance: (H, W) integers, 0 = none; the pixels of one instance are of one category.

    Raises:
        ValueError: 1000 or more objects of one category.
    """
    category = category.astype(np.int64)
    is_void = category == void
    numbers = _numbers_in_category(category, np.where(is_void, 0, instance))
    return np.where(is_void, 0, (category + 1) * SEGMENT_FACTOR + numbers)


def from_segments(segments: np.ndarray, void: int = VOID) -> tuple[np.ndarray, np.ndarray]:
    """Undo `to_segments`: (H, W) int64 categories, and instances numbered over all categories, 0 = none."""
    ids, inverse = np.unique(segments, return_inverse=True)
    inverse = inverse.reshape(segments.shape)
    category = np.where(ids == 0, void, ids // SEGMENT_FACTOR - 1)
    instance = np.where(ids % SEGMENT_FACTOR > 0, np.arange(1, len(ids) + 1), 0)
    return category[inverse], instance[inverse]


def _numbers_in_category(category: np.ndarray, instance: np.ndarray) -> np.ndarray:
    """Number the objects of each category 1, 2, ... in the order of their ids; (H, W) int64, 0 = none."""
    ids, first = np.unique(instance, return_index=True)
    numbers = np.zeros(int(ids[-1]) + 1, dtype=np.int64)
    count: dict[int, int] = {}
    for index, kind in zip(ids.tolist(), category.ravel()[first].tolist(), strict=True):
        if index:
            numbers[index] = count[kind] = count.get(kind, 0) + 1
    if max(count.values(), default=0) >= SEGMENT_FACTOR:
        raise ValueError(f"{max(count.values())} objects of one class in an image, at most 999 fit")
    return numbers[instance]


def to_rgb(segments: np.ndarray) -> np.ndarray:
    """Encode segment ids as COCO does: (H, W) -> (H, W, 3) uint8, id = R + 256 G + 65536 B."""
    return np.stack([segments >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def from_rgb(pixels: np.ndarray) -> np.ndarray:
    """Decode COCO panoptic pixels: (H, W, 3) uint8 RGB -> (H, W) int64 segment ids."""
    parts = pixels.astype(np.int64)
    return parts[..., 0] + (parts[..., 1] << 8) + (parts[..., 2] << 16)


def write_panoptic(path: Path, panoptic: np.ndarray, void: int = VOID) -> None:
    """Write (H, W, 2) integer (category, instance) as a COCO panoptic PNG."""
    write_png(path, to_rgb(to_segments(panoptic[..., 0], panoptic[..., 1], void)))


def read_panoptic(path: Path, void: int = VOID) -> np.ndarray:
    """Read what `write_panoptic` wrote: (H, W, 2) int64.

    Raises:
        UserError: missing, truncated or undecodable file.
    """
    return np.stack(from_segments(from_rgb(read_image(path)), void), axis=-1)


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
    ids, inverse = np.unique(segments, return_inverse=True)
    areas = np.bincount(inverse.ravel())
    low, high = _extents(inverse.reshape(segments.shape), len(ids))
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
