"""Regions of even colour, by the contrast of the image itself, and averages over them; no labels involved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

METHOD = "felzenszwalb"
"""How regions are found; labels and clusters of others do not mix with them."""
WORKING_PIXELS = 256 * 512
"""Larger images are divided at about this size: least areas are in pixels there."""
CONTRAST = 0.9
"""The unit of contrast: this quantile of an image's own steps between neighbouring pixels."""
LEAST_UNIT = 1e-3
"""Of square roots of intensities in 0-1: smaller steps are rounding."""
PREFERENCE = 4.0
"""Felzenszwalb's k in units of contrast: the larger, the larger the regions."""
LEAST_AREA = 8
LARGEST_SHARE = 1 / 8
"""No region holds more of the image than this, so what floods in spite of all spoils a small part of it."""


@dataclass(frozen=True, eq=False)
class Regions:
    """A partition of an image.

    Attributes:
        ids: (H, W) int64, 0..count-1.
        count: number of regions.
    """

    ids: np.ndarray
    count: int

    def mean(self, vectors: np.ndarray) -> np.ndarray:
        """Average cell vectors over regions, by shared pixels: (h, w, D) -> (count, D) float32."""
        cells = self._cells(vectors.shape[0], vectors.shape[1])
        from scipy.sparse import coo_matrix  # here: it takes longer to load than many a step to run

        flat = vectors.reshape(-1, vectors.shape[2]).astype(np.float32)
        shape = (self.count, len(flat))
        ones = np.ones(self.ids.size, dtype=np.float32)
        overlap: csr_matrix = coo_matrix((ones, (self.ids.ravel(), cells.ravel())), shape=shape).tocsr()
        return np.asarray(overlap @ flat / np.maximum(overlap.sum(axis=1), 1e-12), dtype=np.float32)

    def at_cells(self, rows: int, columns: int) -> np.ndarray:
        """Return the region at the centre of each cell of a grid: (rows, columns)."""
        height, width = self.ids.shape
        down = (2 * np.arange(rows) + 1) * height // (2 * rows)
        across = (2 * np.arange(columns) + 1) * width // (2 * columns)
        return self.ids[down[:, None], across]

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Give each pixel the value of its region: (count,) -> (H, W)."""
        return values[self.ids]

    def most_frequent(self, values: np.ndarray) -> np.ndarray:
        """Return the value that most pixels of each region have: (H, W) integers from 0 -> (count,) int64.

        Of equally frequent ones the smallest.
        """
        pairs, counts = np.unique(self.ids * (int(values.max()) + 1) + values, return_counts=True)
        regions, found = np.divmod(pairs, int(values.max()) + 1)
        result = np.zeros(self.count, dtype=np.int64)
        order = np.lexsort((-found, counts))  # the last entry of a region wins
        result[regions[order]] = found[order]
        return result

    def _cells(self, rows: int, columns: int) -> np.ndarray:
        """(H, W) index of the grid cell that holds each pixel."""
        height, width = self.ids.shape
        down = np.arange(height) * rows // height
        across = np.arange(width) * columns // width
        return down[:, None] * columns + across


def even_regions(image: np.ndarray) -> Regions:
    """Partition an image into regions of even colour (Felzenszwalb & Huttenlocher, IJCV 2004).

    What counts as a step is measured in the image itself, so a dark, hazy or low-contrast image falls into
    about as many regions as a bright one; grey levels are no unit. Regions above `LARGEST_SHARE` of the image
    are cut in halves.

    Args:
        image: (H, W, 3) uint8 RGB. One of more than `WORKING_PIXELS` is divided at that size, and the regions
            are brought back to full size.
    """
    height, width = image.shape[:2]
    scale = min(1.0, math.sqrt(WORKING_PIXELS / (height * width)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    colors = in_units_of_contrast(small)
    from skimage.segmentation import felzenszwalb

    ids = felzenszwalb(colors, scale=255 * PREFERENCE, sigma=0, min_size=LEAST_AREA)
    ids = halved(ids.astype(np.int64), max(1, int(LARGEST_SHARE * ids.size)))
    full = cv2.resize(ids.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return Regions(full.astype(np.int64), int(ids.max()) + 1)


def in_units_of_contrast(image: np.ndarray) -> np.ndarray:
    """Return colours in units of the image's own steps: (H, W, 3) uint8 -> float32.

    Square roots make the noise of a camera about as large in the dark as in the light (Anscombe, Biometrika
    1948); brightening an image by a factor changes nothing.
    """
    roots = np.sqrt(image.astype(np.float32) / 255)
    steps = np.concatenate([np.abs(np.diff(roots, axis=axis)).max(axis=2).ravel() for axis in (0, 1)])
    if steps.size and np.quantile(steps, CONTRAST) < LEAST_UNIT:
        steps = steps[steps >= LEAST_UNIT]  # nearly all is flat, as in a drawing: what is not sets the unit
    return roots / np.float32(np.quantile(steps, CONTRAST) if steps.size else 1.0)


def halved(ids: np.ndarray, most: int) -> np.ndarray:
    """Cut regions of more than `most` pixels in the middle of their longer side, until none is left."""
    while True:
        large = np.flatnonzero(np.bincount(ids.ravel()) > most)
        if not len(large):
            return ids
        for region in large:
            place = np.nonzero(ids == region)
            side = place[int(np.ptp(place[1]) > np.ptp(place[0]))]
            half = np.argsort(side, kind="stable")[len(side) // 2 :]
            ids[place[0][half], place[1][half]] = ids.max() + 1
