"""What a network says about one image, in plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cups.categories import Categories
from cups.io.coco_panoptic import SEGMENT_FACTOR, segment_boxes, to_rgb
from cups.structures import PseudoClasses
from cups.taxonomy import id_dtype, void_value


@dataclass(frozen=True)
class Segment:
    """One object, or all pixels of one kind of stuff.

    Attributes:
        id: of its pixels in `PanopticPrediction.ids`, and in COCO files: (category + 1) * 1000 + number.
        category: position in the names.
        name: of the category.
        isthing: whether it is one object.
        score: 0-1 of an object; None of stuff.
        area: pixels.
        box: (left, top, right, bottom) pixels, far sides exclusive.
    """

    id: int
    category: int
    name: str
    isthing: bool
    score: float | None
    area: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class PanopticPrediction:
    """The panoptic map of one image.

    Attributes:
        ids: (H, W) int32, the segment of each pixel; 0 is void.
        segments: all of them, by falling area.
        categories: names and colours.
        image: (H, W, 3) uint8 RGB, what was predicted.
    """

    ids: np.ndarray
    segments: tuple[Segment, ...]
    categories: Categories
    image: np.ndarray

    @property
    def void(self) -> int:
        """Category of void in `semantic`: 255, or 65535 where that many categories are."""
        return void_value(len(self.categories.names))

    @property
    def semantic(self) -> np.ndarray:
        """(H, W) category of each pixel, `void` where there is none; uint8, or uint16 of many categories."""
        category = np.where(self.ids == 0, self.void, self.ids // SEGMENT_FACTOR - 1)
        return category.astype(id_dtype(len(self.categories.names)))

    @property
    def instances(self) -> np.ndarray:
        """(H, W) int32, objects numbered over all categories from 1; 0 is no object."""
        values, inverse = np.unique(self.ids, return_inverse=True)
        objects = values % SEGMENT_FACTOR > 0
        return (np.cumsum(objects) * objects).astype(np.int32)[inverse.reshape(self.ids.shape)]

    def to_coco(self) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Return the COCO panoptic PNG, (H, W, 3) uint8 RGB, and its `segments_info`."""
        return to_rgb(self.ids), [
            {
                "id": segment.id,
                "category_id": segment.category,
                "area": segment.area,
                "bbox": [*segment.box[:2], segment.box[2] - segment.box[0], segment.box[3] - segment.box[1]],
                "iscrowd": 0,
            }
            for segment in self.segments
        ]

    def overlay(self, width: int | None = None, legend: bool = True) -> np.ndarray:
        """Return the map laid over its image, with outlines, numbers of objects and a legend; uint8 RGB.

        Args:
            width: of the picture in pixels; None is the image's.
            legend: whether the classes stand below.
        """
        from cups.evaluation.overlays import draw_prediction

        return draw_prediction(self.image, self.ids, self.categories, width, legend)


def prediction_of(
    image: np.ndarray,
    numbers: np.ndarray,
    found: Sequence[Mapping[str, Any]],
    categories: Categories,
    pseudo: PseudoClasses,
) -> PanopticPrediction:
    """Name the segments of a network's map.

    Pseudo-classes of one category become one stuff segment.

    Args:
        image: (H, W, 3) uint8 RGB.
        numbers: (H, W) int32 segment numbers 1, 2, ..., 0 void.
        found: `id`, `isthing`, `category_id` and `score` of each, see `merge_panoptic`.
    """
    table = np.zeros(len(found) + 1, dtype=np.int32)
    scores: dict[int, float | None] = {}
    counts: dict[int, int] = {}
    for segment in found:
        thing = bool(segment["isthing"])
        index = pseudo.stuffs + segment["category_id"] if thing else segment["category_id"] - 1
        category = int(categories.table[index])
        number = 0
        # A category holds 999 objects; what comes after them, the least sure, counts as one group.
        if thing and categories.is_thing[category] and counts.get(category, 0) < SEGMENT_FACTOR - 1:
            number = counts[category] = counts.get(category, 0) + 1
        coco = (category + 1) * SEGMENT_FACTOR + number
        table[segment["id"]] = coco
        scores[coco] = float(segment["score"]) if number else None
    ids = table[numbers]
    segments = [
        Segment(
            coco,
            coco // SEGMENT_FACTOR - 1,
            categories.names[coco // SEGMENT_FACTOR - 1],
            coco % SEGMENT_FACTOR > 0,
            scores[coco],
            area,
            box,
        )
        for coco, area, box in segment_boxes(ids)
    ]
    return PanopticPrediction(ids, tuple(sorted(segments, key=lambda s: -s.area)), categories, image)
