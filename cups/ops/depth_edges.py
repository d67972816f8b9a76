"""Depth discontinuities, measured so that one threshold serves every distance, scale and resolution."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from cups.ops.nearest import from_nearest

REFERENCE_HEIGHT = 512
"""Image height at which `sigma` is given, and the largest height at which gradients are computed."""


def depth_edges(depth: np.ndarray, sigma: float = 1.0, inside: np.ndarray | None = None) -> np.ndarray:
    """Return the strength of depth edges: the step of log depth across each pixel.

    The depth is normalised by its own local value: the gradient is taken on log depth, so that neither the
    unit of the depth (a network's scale is arbitrary) nor the distance matters. Gaussian smoothing, then the
    Sobel magnitude, divided by the peak that the two give for an ideal step of height one. An ideal straight
    step between depths a and b therefore reads |log(b / a)|: 0.1 is a jump of about 10 %, 0.7 a doubling.
    Slanted surfaces and blurred edges read less, by the part of the step inside the smoothing window.

    The window grows with the image, and taller maps are first reduced to `REFERENCE_HEIGHT` (area mean of log
    depth; half resolution for Cityscapes), so the reading does not depend on the resolution.

    Args:
        depth: (H, W) float, positive and finite, any unit.
        sigma: smoothing in pixels of an image `REFERENCE_HEIGHT` high.
        inside: (H, W) bool; only steps between these pixels count. What surrounds them takes the depth of
            the nearest of them first, so that an outline against the background is no edge: it would eat the
            rim of every object, and small objects whole. Elsewhere the strength is then without meaning.

    Returns:
        (H, W) float32 >= 0, natural-log units.
    """
    height, width = depth.shape
    working_height = min(height, REFERENCE_HEIGHT)
    kernel = _gaussian_kernel(sigma * working_height / REFERENCE_HEIGHT)
    log_depth = cv2.log(depth.astype(np.float32, copy=False))
    if inside is not None:
        # What smoothing, Sobel filter and resizing see around a pixel.
        reach = int(np.ceil((len(kernel) // 2 + 4) * height / working_height))
        log_depth = _extend(log_depth, inside, reach)
    if working_height < height:
        size = (max(1, round(width * working_height / height)), working_height)
        log_depth = cv2.resize(log_depth, size, interpolation=cv2.INTER_AREA)
    smooth = cv2.sepFilter2D(log_depth, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    scale = 0.125 / _step_peak(kernel)
    horizontal = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=scale, borderType=cv2.BORDER_REPLICATE)
    vertical = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=scale, borderType=cv2.BORDER_REPLICATE)
    strength = cv2.magnitude(horizontal, vertical)
    if working_height < height:
        strength = cv2.resize(strength, (width, height), interpolation=cv2.INTER_LINEAR)
    return strength


def linear_edges(depth: np.ndarray, size: tuple[int, int], sigma: float = 1.0) -> np.ndarray:
    """Return the strength of depth edges as published rows measure it: Sobel magnitude on depth in 0-1.

    Depth is scaled to 0-1 over its map, resized to `REFERENCE_HEIGHT` rows and smoothed; the Sobel filter is
    the plain one, whose weights sum to 8. A step of one depth unit counts for less the more depth the map
    spans, and far steps count like near ones of as many metres: `depth_edges` measures otherwise.

    Args:
        depth: (h, w) float, any unit.
        size: (H, W) of the labels.
        sigma: smoothing in pixels of an image `REFERENCE_HEIGHT` high.

    Returns:
        (H, W) float32 >= 0.
    """
    least, most = float(depth.min()), float(depth.max())
    unit: np.ndarray = (depth.astype(np.float32) - least) / max(most - least, 1e-12)
    working = (max(1, round(size[1] * REFERENCE_HEIGHT / size[0])), REFERENCE_HEIGHT)
    unit = np.array(Image.fromarray(unit).resize(working, Image.Resampling.BILINEAR), dtype=np.float32)
    if sigma > 0:
        side = 2 * int(4 * sigma + 0.5) + 1
        unit = cv2.GaussianBlur(unit, (side, side), sigma, borderType=cv2.BORDER_REFLECT)
    horizontal = cv2.Sobel(unit, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REFLECT)
    vertical = cv2.Sobel(unit, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REFLECT)
    strength = cv2.magnitude(horizontal, vertical)
    return cv2.resize(strength, size[::-1], interpolation=cv2.INTER_LINEAR)


def resize_depth(depth: np.ndarray, size: tuple[int, int], sharp: bool) -> np.ndarray:
    """Return (H, W) depth at `size`, half-pixel centres.

    Args:
        depth: (h, w) float32, the same view.
        sharp: outlines are steps, as in stereo: the nearest pixel is taken, because a mean of two depths is a
            surface that does not exist. Otherwise bilinear, as a network's output is meant.
    """
    if depth.shape == tuple(size):
        return depth
    return cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT if sharp else cv2.INTER_LINEAR)


def _extend(values: np.ndarray, inside: np.ndarray, reach: int) -> np.ndarray:
    """Give every pixel within `reach` of an `inside` pixel the value of the nearest of them.

    What lies further off may keep its own value, and does outside the box around all `inside` pixels.
    """
    mask = inside.view(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return np.zeros_like(values)
    rows = slice(max(0, top - reach), top + height + reach)
    columns = slice(max(0, left - reach), left + width + reach)
    result = values.copy()
    result[rows, columns] = from_nearest(values[rows, columns], inside[rows, columns])
    return result


def _gaussian_kernel(sigma: float) -> np.ndarray:
    radius = max(1, int(np.ceil(3 * sigma)))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-3)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def _step_peak(kernel: np.ndarray) -> float:
    """Largest response of smoothing and central difference to a step from 0 to 1."""
    return float(np.convolve(kernel, [0.5, 0.5]).max())
