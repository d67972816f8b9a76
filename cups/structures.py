"""Small frozen contracts between the parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import VOID, void_value

if TYPE_CHECKING:  # steps without a network read splits, and start twice as fast without torch
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
        import torch

        if selection.dtype == torch.bool:
            selection = selection.nonzero().flatten()  # once: a GPU waits for each selection by bool
        return self.replace(masks=self.masks[selection], classes=self.classes[selection])

    def to(self, device: torch.device | str) -> Sample:
        """Return the sample with its tensors on `device`."""
        return self.replace(
            image=self.image.to(device, non_blocking=True),
            sem_seg=self.sem_seg.to(device, non_blocking=True),
            masks=self.masks.to(device, non_blocking=True),
            classes=self.classes.to(device, non_blocking=True),
        )


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One image in memory, with its ground truth where the data set has any.

    Attributes:
        image: (3, H, W) float32 RGB in 0-1.
        name: frame stem or relative path, for messages and output files.
        target: classes and instances, void classes 255; None without ground truth.
        index: position in the data set.
    """

    image: Tensor
    name: str
    target: PanopticMap | None = None
    index: int = 0

    def ground_truth(self, void: int = VOID) -> PanopticMap:
        """Return `target` with void classes `void` instead of 255.

        Raises:
            ValueError: an image without ground truth.
        """
        if self.target is None:
            raise ValueError(f"{self.name}: this data set has no ground truth")
        return self.target.with_void(VOID, void)

    def to(self, device: torch.device | str) -> LoadedImage:
        """Return the image on `device`; scores are counted on the CPU, where the ground truth stays."""
        return replace(self, image=self.image.to(device, non_blocking=True))

    def pin_memory(self) -> LoadedImage:
        """Return the image in page-locked memory; a `DataLoader` asks for it where there is a GPU."""
        return replace(self, image=self.image.pin_memory())


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says about one image.

    Attributes:
        panoptic: categories and instances, see `cups.model.panoptic_map_from_output`.
        semantic: (H, W) int64 channel of the semantic head: 0 "some thing", 1..S stuff.
    """

    panoptic: PanopticMap
    semantic: Tensor


@dataclass(frozen=True)
class PseudoClasses:
    """How many pseudo-classes a network has, and how its output numbers them: stuff 0..S-1, then things.

    Attributes:
        things: T; their categories are S..S+T-1.
        stuffs: S, without the semantic head's channel "some thing".
    """

    things: int
    stuffs: int

    @property
    def total(self) -> int:
        """S + T."""
        return self.things + self.stuffs

    @property
    def void(self) -> int:
        """Category of pixels without a pseudo-class, see `cups.taxonomy.void_value`."""
        return void_value(self.total)

    @property
    def stuff_ids(self) -> range:
        """Categories of stuff."""
        return range(self.stuffs)

    @property
    def thing_ids(self) -> range:
        """Categories of things."""
        return range(self.stuffs, self.total)

    @property
    def is_thing(self) -> np.ndarray:
        """(S + T,) bool, by category."""
        return np.arange(self.total) >= self.stuffs

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each category: pseudo-classes have none but their kind and number."""
        stuffs, things = (range(count) for count in (self.stuffs, self.things))
        return (*(f"stuff {number}" for number in stuffs), *(f"thing {number}" for number in things))


@dataclass(frozen=True)
class ThingStuffSplit:
    """Which classes of pseudo-labels are things and which are stuff, each in falling "thingness".

    The position in `things` is the thing index of the detector; the position in `stuffs`, plus one, is the
    channel of the semantic head (channel 0 is "some thing"). `pseudo_classes` is what a network makes of it:
    numbers that no longer tell which class of the labels is meant.
    """

    things: tuple[int, ...]
    stuffs: tuple[int, ...]

    @property
    def pseudo_classes(self) -> PseudoClasses:
        """Numbers of things and stuff, in the numbering of a network that learns from the labels."""
        return PseudoClasses(len(self.things), len(self.stuffs))


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
    import torch

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
