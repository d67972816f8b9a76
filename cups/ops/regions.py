"""Regions of even colour, found by mean shift, and averages over them; no labels involved."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

SPATIAL_RADIUS = 6
COLOR_RADIUS = 14
STEP = 5
"""Neighbouring pixels whose filtered colours differ by less than this in every channel belong together."""


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

    def _cells(self, rows: int, columns: int) -> np.ndarray:
        """(H, W) index of the grid cell that holds each pixel."""
        height, width = self.ids.shape
        down = np.arange(height) * rows // height
        across = np.arange(width) * columns // width
        return down[:, None] * columns + across


def mean_shift_regions(image: np.ndarray) -> Regions:
    """Partition an image into regions of even colour (Comaniciu & Meer, PAMI 2002).

    image: (H, W, 3) uint8 RGB. Radii are in pixels and grey levels and suit images about 400 pixels wide;
    wider ones are filtered at that width, and the regions brought back to full size.
    """
    height, width = image.shape[:2]
    shrink = max(1, round(width / 512))
    small = cv2.resize(image, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA)
    filtered = cv2.pyrMeanShiftFiltering(small, SPATIAL_RADIUS, COLOR_RADIUS).astype(np.int16)
    rows, columns = filtered.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    across = np.abs(np.diff(filtered, axis=1)).max(axis=2) < STEP
    down = np.abs(np.diff(filtered, axis=0)).max(axis=2) < STEP
    start = np.concatenate((index[:, :-1][across], index[:-1][down]))
    end = np.concatenate((index[:, 1:][across], index[1:][down]))
    graph = coo_matrix((np.ones(len(start), dtype=bool), (start, end)), shape=(index.size, index.size))
    count, ids = connected_components(graph, directed=False)
    full = cv2.resize(ids.reshape(rows, columns), (width, height), interpolation=cv2.INTER_NEAREST)
    return Regions(full.astype(np.int64), int(count))
