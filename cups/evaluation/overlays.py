"""Pictures of predictions for people: colours, outlines, a number on each object, a legend below."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw

from cups.categories import Categories
from cups.io.coco_panoptic import SEGMENT_FACTOR, segment_boxes
from cups.ops.resize import resize_ids
from cups.ops.working_size import resize_pixels
from cups.taxonomy import void_value
from cups.visualization import VOID_COLOR, font, legend_band, overlay, text_width

LEAST_SHARE = 0.0004
"""Objects that cover less of the picture carry no number: it would hide them."""
LEAST_VOID = 0.005
"""Void is in the legend from this share of the picture on."""


def draw_prediction(
    image: np.ndarray,
    ids: np.ndarray,
    categories: Categories,
    width: int | None = None,
    legend: bool | Sequence[int] = True,
) -> np.ndarray:
    """Lay segment ids over their image.

    Args:
        image: (H, W, 3) uint8 RGB.
        ids: (H, W) segment ids, see `cups.io.coco_panoptic.SEGMENT_FACTOR`.
        width: of the picture in pixels; None is the image's.
        legend: the categories of the legend: those in the picture, none, or these (the frames of a video
            keep one size).

    Returns:
        (H', W', 3) uint8 RGB.
    """
    if width is not None and width != image.shape[1]:
        size = (max(1, round(image.shape[0] * width / image.shape[1])), width)
        image, ids = resize_pixels(image, size), resize_ids(torch.from_numpy(ids), size).numpy()
    void = void_value(len(categories.names))
    panoptic = np.stack((np.where(ids == 0, void, ids // SEGMENT_FACTOR - 1), ids % SEGMENT_FACTOR), axis=-1)
    picture = _number_objects(overlay(image, panoptic, categories.colors, alpha=0.55), ids)
    if legend is False:
        return picture
    entries = _legend(ids, categories) if legend is True else [_entry(c, categories) for c in legend]
    band = legend_band(entries, int(np.clip(0.45 * image.shape[1], 320, 900)), image.shape[1])
    return np.concatenate((picture, np.asarray(band)))


def _entry(category: int, categories: Categories, objects: int = 0) -> tuple[str, Sequence[int]]:
    name = categories.names[category]
    return (f"{name} ({objects})" if objects else name), categories.colors[category].tolist()


def _legend(ids: np.ndarray, categories: Categories) -> list[tuple[str, Sequence[int]]]:
    """Return the categories of a map, largest first, things with the number of their objects."""
    values, counts = np.unique(ids, return_counts=True)
    area = np.zeros(len(categories.names) + 1, dtype=np.int64)
    np.add.at(area, values // SEGMENT_FACTOR, counts)
    objects = np.bincount(values[values % SEGMENT_FACTOR > 0] // SEGMENT_FACTOR, minlength=len(area))
    order = sorted(np.flatnonzero(area[1:]).tolist(), key=lambda c: (categories.is_thing[c], -area[c + 1]))
    entries = [_entry(category, categories, int(objects[category + 1])) for category in order]
    return entries + ([("no class", VOID_COLOR)] if area[0] > LEAST_VOID * ids.size else [])


def _number_objects(picture: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Write the number of each object, counted in its category, where it is thickest."""
    size = max(10, round(picture.shape[1] / 75))
    canvas = Image.fromarray(picture).convert("RGBA")
    layer = Image.new("RGBA", canvas.size)
    draw = ImageDraw.Draw(layer)
    for segment, area, (left, top, right, bottom) in segment_boxes(ids):
        text = str(segment % SEGMENT_FACTOR)
        if segment % SEGMENT_FACTOR == 0 or area < LEAST_SHARE * ids.size:
            continue
        mask = np.pad(ids[top:bottom, left:right] == segment, 1).astype(np.uint8)
        depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        letters = int(np.clip(1.1 * depth.max(), 0.6 * size, size))
        x, y = left + int(column) - 1, top + int(row) - 1
        half = (text_width(text, letters) / 2 + 0.35 * letters, 0.68 * letters)
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        draw.rounded_rectangle(box, radius=0.35 * letters, fill=(0, 0, 0, 150))
        draw.text((x, y), text, font=font(letters), fill=(255, 255, 255, 255), anchor="mm")
    return np.asarray(Image.alpha_composite(canvas, layer).convert("RGB"))
