"""Labels of neighbouring frames vote on each pixel: temporal consistency without training."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cups.ops.flow import carry, scene_flow

FLOW_SIDE = 640
"""Pixels of the longer side at which flow is computed."""


def vote(
    own: np.ndarray, others: Sequence[tuple[np.ndarray, np.ndarray]], is_thing: np.ndarray
) -> np.ndarray:
    """Return the label that most frames give each pixel, its own where several have as many.

    First things and stuff are voted on, then the labels of the kind that won. Of others, the earlier in the
    list comes first.

    Args:
        own: (H, W) integer labels of the frame.
        others: labels of neighbours carried to the frame, and (H, W) bool where they have a vote.
        is_thing: (K,) bool, one for each label that occurs; all equal makes it a vote on labels alone.
    """
    labels = np.stack([own, *(carried for carried, _ in others)])
    votes = np.stack([np.ones(own.shape, dtype=bool), *(sure for _, sure in others)])
    thing = is_thing[labels]
    # Ties stay with the frame: its own vote counts a half more.
    said = (votes & thing).sum(axis=0) - (votes & ~thing).sum(axis=0) + np.where(thing[0], 0.5, -0.5)
    votes &= thing == (said > 0)
    counts = np.stack(
        [(votes & (labels == one)).sum(axis=0) * mine for one, mine in zip(labels, votes, strict=True)]
    )
    best = counts.argmax(axis=0)
    voted: np.ndarray = np.take_along_axis(labels, best[None], axis=0)[0]
    return voted


def carried_labels(
    picture: np.ndarray, other: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a neighbour where its pixels are in a frame, and where that is sure, (H, W) each.

    Nothing is sure between different scenes.

    Args:
        picture, other: (h, w) uint8 brightness of the frame and of the neighbour, at one size.
        labels: (H, W) of the neighbour.
    """
    flow, sure = scene_flow(picture, other)
    height, width = labels.shape
    if flow.shape[:2] != labels.shape:
        scale = np.array((width / flow.shape[1], height / flow.shape[0]), np.float32)
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * scale
        sure = cv2.resize(sure.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0
    return carry(labels, flow), sure


def flow_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (h, w) at which flow between frames with (H, W) labels is computed."""
    scale = min(1.0, FLOW_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
