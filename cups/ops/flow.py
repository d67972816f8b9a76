"""Optical flow between two pictures, where it can be trusted, and labels carried along it; no network."""

from __future__ import annotations

import cv2
import numpy as np

LEAST_SIDE = 32
"""Pixels: smaller pictures have no flow, and stand still. OpenCV looks for patches of 8 pixels in pictures of
a quarter of the size, and reads beyond those that are smaller."""
SLACK, SLACK_PIXELS = 0.01, 0.5
"""Of the forward-backward check: the squared gap allowed, as a share of the squared flows, and at least."""

LARGEST_STEP = 50
"""A clip was cut where pixels that flow connects differ in brightness by more levels than this (half of them
do), times the share of the pixels where flow is sure: nothing is one object across. In toy streets frames one
place apart have 4 to 6, six places 12 to 26, other scenes 100 and more; photos of other things as well."""


def gray(image: np.ndarray) -> np.ndarray:
    """Return the brightness of (H, W, 3) uint8 RGB: (H, W) uint8."""
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def dense_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return where each pixel of one picture lies in another: (H, W, 2) float32, to the right and down.

    Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (ECCV 2016), as OpenCV has it.

    Args:
        first, second: (H, W) uint8.
    """
    if min(first.shape) < LEAST_SIDE:
        return np.zeros((*first.shape, 2), dtype=np.float32)
    first, second = np.ascontiguousarray(first), np.ascontiguousarray(second)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow: np.ndarray = search.calc(first, second, None)  # type: ignore[call-overload]  # None: no first guess
    return flow


def flow_both_ways(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow from one picture to another, and where that agrees with the flow back.

    Source of the check: Sundaram et al., "Dense Point Trajectories by GPU-accelerated Large Displacement
    Optical Flow" (ECCV 2010), equation 5.

    Args:
        first, second: (H, W) uint8.

    Returns:
        (H, W, 2) float32 flow; (H, W) bool: not occluded, not outside of the other picture, not a guess.
    """
    there, back = dense_flow(first, second), dense_flow(second, first)
    x, y = _targets(there)
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    gap = ((there + returned) ** 2).sum(axis=2)
    allowed = SLACK * ((there**2).sum(axis=2) + (returned**2).sum(axis=2)) + SLACK_PIXELS
    height, width = first.shape
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    return there, (gap <= allowed) & inside


def carry(labels: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return the labels that the pixels of a picture have in another one, by the nearest pixel.

    Args:
        labels: (H, W) integers of the other picture.
        flow: (H, W, 2) from the picture to the other one; beyond its border the border is taken.
    """
    height, width = labels.shape
    x, y = _targets(flow)
    columns = np.clip(np.rint(x), 0, width - 1).astype(np.intp)
    rows = np.clip(np.rint(y), 0, height - 1).astype(np.intp)
    carried: np.ndarray = labels[rows, columns]
    return carried


def scene_flow(picture: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `flow_both_ways` does; nothing is sure where the two pictures show different scenes."""
    flow, sure = flow_both_ways(picture, other)
    if is_cut(picture, carry(other, flow), sure):
        sure = np.zeros_like(sure)
    return flow, sure


def is_cut(picture: np.ndarray, carried: np.ndarray, sure: np.ndarray) -> bool:
    """Return whether a picture shows another scene than the one that flow carried it from.

    Args:
        picture, carried: (H, W) uint8 brightness of the picture, and of the other one carried to it.
        sure: (H, W) bool, where the flow is.
    """
    steps = cv2.absdiff(picture, carried)[sure]
    return not steps.size or float(np.median(steps)) > LARGEST_STEP * float(sure.mean())


def _targets(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return x, y
