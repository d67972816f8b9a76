"""Small frozen contracts between the parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """One training frame with its pseudo-labels, before and after augmentation.

    Attributes:
        image: (3, H, W) float32 RGB in 0-1.
        sem_seg: (H, W) int64; 0 is "some thing", 1..S the stuff pseudo-classes, 65535 ignore.
        masks: (N, H, W) bool, one per instance, disjoint.
        classes: (N,) int64, thing index 0..T-1 of each instance.
        name: frame stem, for messages.
    """

    image: Tensor
    sem_seg: Tensor
    masks: Tensor
    classes: Tensor
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])

    def replace(self, **changes: Any) -> Sample:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def keep(self, selection: Tensor) -> Sample:
        """Return the sample with only the selected instances. `selection`: (N,) bool or indices."""
        return self.replace(masks=self.masks[selection], classes=self.classes[selection])

    def to(self, device: torch.device | str) -> Sample:
        """Return the sample with its tensors on `device`."""
        return self.replace(
            image=self.image.to(device, non_blocking=True),
            sem_seg=self.sem_seg.to(device, non_blocking=True),
            masks=self.masks.to(device, non_blocking=True),
            classes=self.classes.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class ThingStuffSplit:
    """Which pseudo-classes are things and which are stuff, each in falling "thingness".

    The position in `things` is the thing index of the detector; the position in `stuffs`, plus one, is the
    channel of the semantic head (channel 0 is "some thing").
    """

    things: tuple[int, ...]
    stuffs: tuple[int, ...]

    @property
    def num_pseudo_classes(self) -> int:
        """Number of pseudo-classes, things and stuff."""
        return len(self.things) + len(self.stuffs)


@dataclass(frozen=True, eq=False)
class OverlapTable:
    """What panoptic quality needs of one image: segments and their pairwise overlaps, no pixels.

    Attributes:
        pred_category, pred_instance, pred_area: (P,) int64; category (void = 255 or the id given), instance
            (0 is none) and area in pixels.
        target_category, target_instance, target_area: (T,) int64.
        pairs: (M, 3) int64 rows (predicted segment, target segment, overlap in pixels), overlap > 0.
    """

    pred_category: np.ndarray
    pred_instance: np.ndarray
    pred_area: np.ndarray
    target_category: np.ndarray
    target_instance: np.ndarray
    target_area: np.ndarray
    pairs: np.ndarray


def boxes_from_masks(masks: Tensor) -> Tensor:
    """Return tight boxes of masks: (N, H, W) bool -> (N, 4) float32 XYXY pixels, far sides exclusive.

    The +1 on the far side matters: a one-pixel object must not have zero area (an RPN that is shown such a
    box makes every anchor positive). Empty masks give the box (0, 0, 0, 0).
    """
    count, height, width = masks.shape
    if count == 0:
        return torch.zeros((0, 4), dtype=torch.float32, device=masks.device)
    rows, columns = masks.any(dim=2), masks.any(dim=1)
    top, left = rows.float().argmax(1), columns.float().argmax(1)
    bottom = height - rows.flip(1).float().argmax(1)
    right = width - columns.flip(1).float().argmax(1)
    boxes = torch.stack((left, top, right, bottom), dim=1).float()
    boxes[~rows.any(dim=1)] = 0
    return boxes


class Draw(NamedTuple):
    """A training draw: which frame, and the running number that seeds its augmentation."""

    frame: int
    number: int
