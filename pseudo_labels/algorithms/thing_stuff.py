"""Which pseudo-classes are things: label-free statistics of each, and the choice by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields

import cc3d
import cv2
import numpy as np

from cups.ops.borders import label_borders
from cups.ops.ground import ObjectModel, StreetSearch, fit_ground, object_regions

SMALLEST_REGION = 1e-4
"""Regions below this share of the image are left out of the region statistics: specks of the clustering."""


@dataclass(frozen=True)
class ClassSums:
    """Sums over frames, each (K,) float64; they add up, so frames may be counted in any order and process.

    Attributes:
        frames: frames in which the class occurs.
        pixels: all its pixels, at working size, as shares of an image.
        in_objects: those inside object-like regions.
        regions: its 8-connected regions (without specks).
        region_area: their areas, as shares of an image.
        region_extent: their heights as shares of the image height, weighted by area.
        outline: pixels on its borders with other classes.
        front: those in front of something farther by a depth edge.
        above: height above the street in camera heights, summed over `pixels`.
    """

    frames: np.ndarray
    pixels: np.ndarray
    in_objects: np.ndarray
    regions: np.ndarray
    region_area: np.ndarray
    region_extent: np.ndarray
    outline: np.ndarray
    front: np.ndarray
    above: np.ndarray

    def __add__(self, other: ClassSums) -> ClassSums:
        """Sum of two sets of frames."""
        names = [field.name for field in fields(self)]
        return ClassSums(*(getattr(self, name) + getattr(other, name) for name in names))


def no_sums(num_classes: int) -> ClassSums:
    """Return the sums over no frame."""
    return ClassSums(*(np.zeros(num_classes) for _ in fields(ClassSums)))


def frame_sums(
    semantic: np.ndarray, depth: np.ndarray, num_classes: int, model: ObjectModel | None = None
) -> ClassSums | None:
    """Gather the sums of one frame; None where no street can be fitted.

    Args:
        semantic: (H, W) classes; values from `num_classes` on are void.
        depth: (H, W) float, positive, any unit.
        model: what counts as an object, and as a step of depth.
    """
    ground = fit_ground(depth)
    if ground is None:
        return None
    model = model or ObjectModel()
    objects = object_regions(depth, ground, model) > 0
    labels = np.minimum(semantic, num_classes)
    edge = label_borders(labels)
    in_front = np.log(cv2.dilate(depth, np.ones((3, 3), np.uint8)) / depth) > model.edge
    # Far off, metres of height hang on single pixels: what counts is street, object, or taller.
    above = np.clip(ground.height(depth), 0, 4)

    def count(weights: np.ndarray) -> np.ndarray:
        counted = np.bincount(labels.ravel(), weights.ravel(), minlength=num_classes + 1)
        return counted[:num_classes] / labels.size

    pixels = count(np.ones(labels.shape))
    return ClassSums(
        (pixels > 0).astype(np.float64),
        pixels,
        count(objects),
        *_region_sums(labels, num_classes),
        count(edge),
        count(edge & in_front),
        count(above),
    )


def why_no_street(searches: Iterable[StreetSearch]) -> str:
    """Return in how many frames no street was found, and why, the most frequent reason first; "" for none."""
    found = list(searches)
    reasons = Counter(search.reason for search in found if search.plane is None)
    if not reasons:
        return ""
    each = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3))
    return f"no street in {reasons.total()} of {len(found)} frames: {each}"


def _region_sums(labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return number, area and area-weighted height of the regions of each class; (K,) each."""
    # Classes from 1: the library takes 0 for background.
    regions = cc3d.connected_components(labels.astype(np.uint32) + 1, connectivity=8)
    statistics = cc3d.statistics(regions, no_slice_conversion=True)
    areas = statistics["voxel_counts"].astype(np.float64) / labels.size
    boxes = statistics["bounding_boxes"].astype(np.float64)
    extents = (boxes[:, 1] - boxes[:, 0] + 1) / labels.shape[0]
    classes = np.zeros(len(areas), dtype=np.int64)
    classes[regions.ravel()] = labels.ravel()
    kept = areas >= SMALLEST_REGION
    kept[0] = False

    def count(weights: np.ndarray) -> np.ndarray:
        return np.bincount(classes[kept], weights[kept], minlength=num_classes + 1)[:num_classes]

    return count(np.ones(len(areas))), count(areas), count(areas * extents)


@dataclass(frozen=True)
class Statistics:
    """Per class, (K,) float64 each: see `describe`."""

    score: np.ndarray
    share_of_pixels: np.ndarray
    regions_per_image: np.ndarray
    region_area: np.ndarray
    vertical_extent: np.ndarray
    front_edges: np.ndarray
    height_above_street: np.ndarray


def statistics_of(sums: ClassSums, num_frames: int) -> Statistics:
    """Turn sums over `num_frames` frames into means; classes that do not occur get 0."""

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    return Statistics(
        score=ratio(sums.in_objects, sums.pixels),
        share_of_pixels=sums.pixels / max(1, num_frames),
        regions_per_image=ratio(sums.regions, sums.frames),
        region_area=ratio(sums.region_area, sums.regions),
        vertical_extent=ratio(sums.region_extent, sums.region_area),
        front_edges=ratio(sums.front, sums.outline),
        height_above_street=ratio(sums.above, sums.pixels),
    )


def choose_things(
    score: np.ndarray, occurs: np.ndarray, threshold: float, num_things: int | None
) -> list[int]:
    """Return the thing classes by falling score: the best `num_things`, or all at `threshold` and above."""
    order = [int(index) for index in np.argsort(-score, kind="stable") if occurs[index]]
    if num_things is not None:
        return order[:num_things]
    return [index for index in order if score[index] >= threshold]
