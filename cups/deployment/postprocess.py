"""From the outputs of an exported graph to a panoptic map, in NumPy alone.

It needs nothing of this project: `scripts/export.py` puts a copy of this file beside the graph. It does what
`cups.load(...).predict` does after the network (Kirillov et al., "Panoptic Segmentation",
CVPR 2019): objects by falling score, each needs enough free area; then stuff;
the rest is void.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

BAND = 64
"""Rows of the output that are enlarged at a time."""


def panoptic_of(
    outputs: tuple[np.ndarray, ...] | list[np.ndarray],
    size: tuple[int, int],
    settings: Mapping[str, Any],
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Merge the outputs of the graph into one map.

    Args:
        outputs: as the graph gives them: logits (S+1, h, w), boxes (N, 4), scores (N,), classes (N,), masks
            (N, M, M).
        size: (H, W) of the map, that of the image before it was resized for the graph.
        settings: `merge` of the JSON beside the graph: `overlap_threshold`, `score_threshold`,
            `stuff_area_fraction`, `stuff_area_pixels`, `things_first`, `semantic_weight`.

    Returns:
        (H, W) int32 segment numbers, 0 void, and one dict per segment: `id`, `isthing`, `category` (stuff
        0..S-1, then things, as in the JSON), and `score` of things or `area` of stuff.
    """
    logits, boxes, scores, classes, masks = outputs
    scores = agreed_scores(logits, boxes, scores, masks, float(settings["semantic_weight"]))
    seen, stuffs = logits.shape[1:], logits.shape[0] - 1
    panoptic = np.zeros(size, dtype=np.int32)
    segments: list[dict[str, Any]] = []
    scale = size[0] / seen[0], size[1] / seen[1]
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] < settings["score_threshold"]:
            break
        top, left, mask = _paste(masks[index], boxes[index], scale, size)
        window = panoptic[top : top + mask.shape[0], left : left + mask.shape[1]]
        free = mask & (window == 0)
        area, unpainted = int(mask.sum()), int(free.sum())
        if area == 0 or area - unpainted > settings["overlap_threshold"] * area:
            continue
        window[free] = len(segments) + 1
        category, score = stuffs + int(classes[index]), float(scores[index])
        segments.append({"id": len(segments) + 1, "isthing": True, "category": category, "score": score})
    semantic = semantic_of(logits, size, bool(settings["things_first"]))
    least = settings["stuff_area_fraction"] * size[0] * size[1] or settings["stuff_area_pixels"]
    _fill_stuff(panoptic, semantic, segments, least)
    return panoptic, segments


def agreed_scores(
    logits: np.ndarray, boxes: np.ndarray, scores: np.ndarray, masks: np.ndarray, weight: float
) -> np.ndarray:
    """Return (N,) scores to which the semantic head agrees: box^(1 - weight) * semantic^weight.

    Of the semantic head it is the mean probability of "some thing" in the mask, at the size of the graph.

    Args:
        logits, boxes, scores, masks: outputs of the graph.
        weight: 0 (the box head alone) to 1.
    """
    if weight == 0 or not len(scores):
        return scores
    shares = np.exp(logits - logits.max(axis=0))
    things = shares[0] / shares.sum(axis=0)
    agreed = np.array(scores, dtype=np.float64)
    for index, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        top, left, inside = _paste(mask, box, (1.0, 1.0), (things.shape[0], things.shape[1]))
        if inside.any():
            mean = things[top : top + inside.shape[0], left : left + inside.shape[1]][inside].mean()
            agreed[index] = agreed[index] ** (1 - weight) * mean**weight
    return agreed


def semantic_of(logits: np.ndarray, size: tuple[int, int], things_first: bool = False) -> np.ndarray:
    """Return the channel of each pixel, (H, W) int16: 0 "some thing", 1..S stuff.

    Args:
        logits: (S+1, h, w), enlarged bilinearly (pixel centres).
        size: (H, W).
        things_first: decide between things and stuff by their whole probabilities, then between stuff.
    """
    decided = np.empty(size, dtype=np.int16)
    left, right, across = _neighbours(size[1], logits.shape[2])
    for first in range(0, size[0], BAND):
        rows = slice(first, min(first + BAND, size[0]))
        top, bottom, down = (part[rows] for part in _neighbours(size[0], logits.shape[1]))
        upper, lower = logits[:, top], logits[:, bottom]
        bands = upper + (lower - upper) * down[None, :, None]
        values = bands[:, :, left] + (bands[:, :, right] - bands[:, :, left]) * across
        decided[rows] = values.argmax(axis=0)
        if things_first:
            shares = np.exp(values - values.max(axis=0))
            stuff = shares[1:]
            decided[rows] = np.where(shares[0] > stuff.sum(axis=0), 0, stuff.argmax(axis=0) + 1)
    return decided


def _neighbours(length: int, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pixels of a source before and behind each of `length` places, and the latter's weight."""
    places = np.clip((np.arange(length) + 0.5) * (source / length) - 0.5, 0, source - 1)
    before = np.floor(places).astype(np.int64)
    return before, np.minimum(before + 1, source - 1), (places - before).astype(np.float32)


def _paste(
    mask: np.ndarray, box: np.ndarray, scale: tuple[float, float], size: tuple[int, int]
) -> tuple[int, int, np.ndarray]:
    """Return the first row, the first column and the pixels (bool) of a mask at the size of the map."""
    left, top, right, bottom = (float(side) for side in box)
    if right <= left or bottom <= top:
        return 0, 0, np.zeros((0, 0), dtype=bool)
    first_row, rows = _samples(top * scale[0], bottom * scale[0], mask.shape[0], size[0])
    first_column, columns = _samples(left * scale[1], right * scale[1], mask.shape[1], size[1])
    return first_row, first_column, rows @ mask.astype(np.float32) @ columns.T >= 0.5


def _samples(low: float, high: float, count: int, length: int) -> tuple[int, np.ndarray]:
    """Return the first pixel of a box side, and (pixels, count) weights of the mask's entries for each."""
    first, last = max(0, int(low) - 1), min(length, int(high) + 2)
    centres = np.arange(first, max(first, last), dtype=np.float32) + np.float32(0.5)
    places = (centres - np.float32(low)) / np.float32(high - low) * np.float32(count) - np.float32(0.5)
    return first, np.maximum(1 - np.abs(places[:, None] - np.arange(count, dtype=np.float32)), 0)


def _fill_stuff(
    panoptic: np.ndarray, semantic: np.ndarray, segments: list[dict[str, Any]], least: float
) -> None:
    """Give what is free to the kinds of stuff that have enough of it, in place."""
    free = np.where(panoptic == 0, semantic, 0)
    areas = np.bincount(free.ravel())
    numbers = np.zeros(len(areas), dtype=np.int32)
    for channel, area in enumerate(areas.tolist()):
        if channel == 0 or area == 0 or area < least:
            continue
        numbers[channel] = len(segments) + 1
        segments.append({"id": len(segments) + 1, "isthing": False, "category": channel - 1, "area": area})
    panoptic += numbers[free]
