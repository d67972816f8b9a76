"""The size at which a network sees an image of any size, and the tiles of what is too large for it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import ceil, isqrt, sqrt
from typing import NamedTuple

import cv2
import numpy as np

Size = tuple[int, int]

TILE_PIXELS = 2**21
"""Largest image (1024 x 2048) that is predicted in one piece, unless the network was trained on larger."""
OVERLAP = 0.25
"""Share of a tile that its neighbour sees too."""


def fitted_size(size: Size, working: Size | None) -> Size:
    """Return the (H, W) at which to predict an image of `size` with a network trained at `working`.

    An image as wide as the training images or wider gets their height: a panorama shows the same street, only
    more of it to the sides. A narrower one (a phone held upright) gets their number of pixels: at their
    height it would lose detail, and its objects would be smaller than any the network has met. The two rules
    agree where they meet. None keeps the image as it is.
    """
    if working is None:
        return size
    height, width = size
    scale = max(working[0] / height, sqrt(working[0] * working[1] / (height * width)))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_pixels(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize (H, W, 3) uint8 to `size`; pixels are averaged when it shrinks, else interpolated.

    The mean makes a photograph and its enlarged copy look alike to the network.
    """
    if image.shape[:2] == size:
        return image
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size[1], size[0]), interpolation=mode)


class Tile(NamedTuple):
    """A window of an image, and the part of it for which it decides alone.

    Attributes:
        top, left, height, width: the window.
        core: (top, left, bottom, right) in the image; the cores of all tiles cover it once.
    """

    top: int
    left: int
    height: int
    width: int
    core: tuple[int, int, int, int]


def tiles_of(size: Size, limit: int = TILE_PIXELS) -> list[Tile]:
    """Cut an image of `size` into overlapping windows of equal size, each of at most `limit` pixels.

    The border between two cores runs through the middle of what both windows see.
    """
    height, width = size
    tile_height = min(height, max(1, isqrt(limit)))
    tile_width = min(width, max(1, limit // tile_height))
    tile_height = min(height, max(1, limit // tile_width))
    return [
        Tile(top, left, tile_height, tile_width, (core_top, core_left, core_bottom, core_right))
        for top, core_top, core_bottom in _starts(height, tile_height)
        for left, core_left, core_right in _starts(width, tile_width)
    ]


def _starts(length: int, side: int) -> Iterator[tuple[int, int, int]]:
    """Yield the start of each window along one axis, and where its core begins and ends."""
    step = max(1, side - round(OVERLAP * side))
    count = 1 + ceil((length - side) / step)
    starts = np.linspace(0, length - side, count).round().astype(int).tolist()
    borders = [(right + left + side) // 2 for left, right in pairwise(starts)]
    yield from zip(starts, [0, *borders], [*borders, length], strict=True)
