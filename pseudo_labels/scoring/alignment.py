"""Do label borders lie on image edges? The offset at which they do best shows displaced labels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import scipy.fft
import torch

from cups.ops.borders import label_borders
from cups.ops.resize import resize_ids

WORK_HEIGHT = 512
"""Larger images are compared at this height."""
SURROUNDINGS = 31
"""Side of the square that an edge is compared with, pixels."""
NOISE = 2.0
"""Gradient (grey levels) that counts for nothing: keeps the noise of flat areas from being amplified."""
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")


def edge_strength(image: np.ndarray) -> np.ndarray:
    """Return how much stronger the gradient is than around: (H, W, 3) uint8 RGB -> (H, W) float32.

    0 is as strong as on average in the surroundings, 1 twice as strong. Being relative, it has no preference
    for textured parts of the image: borders moved anywhere else score about 0.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(*(cv2.Scharr(grey, cv2.CV_32F, *axis, scale=1 / 32) for axis in ((1, 0), (0, 1))))
    around = cv2.blur(gradient, (SURROUNDINGS, SURROUNDINGS), borderType=cv2.BORDER_REFLECT)
    return (gradient - around) / (around + NOISE)


@dataclass(frozen=True)
class Peak:
    """Where borders fit edges best.

    Attributes:
        down, right: pixels by which the labels would have to move.
        score: edge strength under the moved borders.
        at_zero: edge strength under the borders as they are.
        noise: spread of the scores over all offsets.
        clearness: how far the best score stands out, in units of `noise`.
    """

    down: int
    right: int
    score: float
    at_zero: float
    noise: float
    clearness: float


@dataclass(frozen=True)
class EdgeFit:
    """Border-edge correlation of one or several images of a size.

    Attributes:
        sums: (4, 2R+1, 2R+1) edge strength under the borders of each quadrant moved by -R..R down and right.
        borders: (4,) border pixels.
        size: (H, W) at which it was computed.
    """

    sums: np.ndarray
    borders: np.ndarray
    size: tuple[int, int]

    def __add__(self, other: EdgeFit) -> EdgeFit:
        """Join two sets of images of the same size."""
        return EdgeFit(self.sums + other.sums, self.borders + other.borders, self.size)

    def scores(self, quadrant: int | None = None) -> np.ndarray:
        """Return (2R+1, 2R+1) mean edge strength under borders; offset 0 is the centre."""
        part = slice(None) if quadrant is None else slice(quadrant, quadrant + 1)
        return self.sums[part].sum(axis=0) / max(1, self.borders[part].sum())

    def peak(self, quadrant: int | None = None) -> Peak:
        """Return the best offset, of all borders or those of one quadrant."""
        scores = self.scores(quadrant)
        radius = len(scores) // 2
        row, column = np.unravel_index(scores.argmax(), scores.shape)
        middle = np.median(scores)
        noise = float(1.4826 * np.median(np.abs(scores - middle))) or 1e-12
        return Peak(
            down=int(row) - radius,
            right=int(column) - radius,
            score=float(scores.max()),
            at_zero=float(scores[radius, radius]),
            noise=noise,
            clearness=float(scores.max() - middle) / noise,
        )


def work_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (H, W) at which an image of `size` is compared with its labels."""
    height = min(size[0], WORK_HEIGHT)
    return height, max(1, round(size[1] * height / size[0]))


def edge_fit(image: np.ndarray, labels: np.ndarray, void: int, reach: float) -> EdgeFit:
    """Correlate label borders with image edges over all offsets, by FFT.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (h, w) integer ids of the same view, of any size.
        void: id whose borders do not count.
        reach: largest offset tried, as a share of the height.
    """
    size = work_size((image.shape[0], image.shape[1]))
    edges = edge_strength(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
    borders = label_borders(resize_ids(torch.from_numpy(labels.astype(np.int64)), size).numpy(), void)
    radius = max(1, round(reach * size[0]))
    # Zeros beyond the frame: a border moved out of the image counts as no edge.
    shape = [scipy.fft.next_fast_len(side + radius, real=True) for side in size]
    spectrum = scipy.fft.rfft2(edges, shape)
    parts = np.zeros((4, *size), dtype=np.float32)
    rows, columns = ((slice(side // 2), slice(side // 2, None)) for side in size)
    for index, where in enumerate(product(rows, columns)):
        parts[index][where] = borders[where]
    offsets = np.arange(-radius, radius + 1)
    sums = scipy.fft.irfft2(np.conj(scipy.fft.rfft2(parts, shape)) * spectrum, shape)
    return EdgeFit(sums[:, offsets[:, None], offsets], parts.sum(axis=(1, 2), dtype=np.float64), size)
