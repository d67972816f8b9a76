"""Frames with labels as training samples, whoever wrote the labels.

The alignment rule: image and labels pass through the same geometry, whatever size the label files have.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cups.data.fit import Fit, draw_generator
from cups.data.unlabelled import FittedImages, held_out_indices
from cups.data.utils import image_tensor
from cups.io.png import read_image
from cups.ops.resize import resize_image
from cups.structures import Draw, Sample, ThingStuffSplit
from cups.taxonomy import WIDE_VOID

Augment = Callable[[Sample, torch.Generator], Sample]
Own = TypeVar("Own", bound="LabelledFrames")

COUNTED = 2**16
"""Ids below it are counted in a table; COCO's and those of clips would need one of 2**24 places and more."""


def numbered(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the (N,) ids that occur, rising, and the place of each pixel's id among them; as torch.unique.

    ids: int64, not negative.
    """
    if ids.numel() and int(ids.max()) >= COUNTED:
        found: tuple[Tensor, Tensor] = torch.unique(ids, return_inverse=True)
        return found
    present = torch.bincount(ids.flatten()) > 0  # a third of the time of torch.unique
    return torch.nonzero(present).flatten(), (present.cumsum(0) - 1)[ids]


class LabelledFrames(Dataset[Sample]):
    """Frames that a network learns from.

    Args:
        stems: name of each frame.
        split: things and stuff among the classes of the labels.
        fit: how frames are brought to one size; what is missing is padded (image 0, semantic void).
        ignore_unknown_things: thing pixels outside every instance become void, not "some thing".
        augment: `(sample, generator) -> sample`, seeded per draw; needs `Draw` indices.

    Attributes:
        typical_size: (H, W) of the image files, the median.
    """

    typical_size: tuple[int, int]

    def __init__(
        self,
        stems: Sequence[str],
        split: ThingStuffSplit,
        fit: Fit,
        ignore_unknown_things: bool,
        augment: Augment | None,
        seed: int,
    ) -> None:
        self.stems, self.split, self.fit = list(stems), split, fit
        self.ignore_unknown_things = ignore_unknown_things
        self.augment, self.seed = augment, seed
        # One look-up serves every frame: pseudo-class -> channel of the semantic head, and -> thing index.
        # The last place is everything that is no pseudo-class: void, 255 or 65535 by the width of the files.
        count = self.split.pseudo_classes.total
        self._to_channel = torch.full((count + 1,), WIDE_VOID, dtype=torch.int64)
        self._to_thing = torch.full((count + 1,), -1, dtype=torch.int64)
        for index, pseudo_class in enumerate(self.split.things):
            self._to_channel[pseudo_class] = 0
            self._to_thing[pseudo_class] = index
        for index, pseudo_class in enumerate(self.split.stuffs):
            self._to_channel[pseudo_class] = index + 1

    @property
    @abstractmethod
    def all_pixels(self) -> Tensor:
        """(K,) pixels of each class of the labels."""

    @abstractmethod
    def image_path(self, stem: str) -> Path:
        """Return the image of a frame."""

    @abstractmethod
    def labels(self, stem: str, raw_size: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the semantic ids and the instance ids of a frame, both (size) int64.

        Args:
            raw_size: (H, W) of the image file.
            size: (H, W) of the image after scaling.
        """

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, draw: int | Draw) -> Sample:
        index, number = draw if isinstance(draw, Draw) else (draw, draw)
        generator = draw_generator(self.seed, number)
        sample = self.load(index, generator if isinstance(draw, Draw) else None)
        return sample if self.augment is None else self.augment(sample, generator)

    def load(self, index: int, generator: torch.Generator | None = None) -> Sample:
        """Return one frame, scaled and cropped, without augmentation; `generator` draws the crop's place."""
        stem = self.stems[index]
        image = image_tensor(read_image(self.image_path(stem)))
        raw_size = (image.shape[-2], image.shape[-1])
        size = self.fit.size(raw_size)
        corner = self.fit.corner(size, generator)
        semantic, instance = self.labels(stem, raw_size, size)
        return self._to_sample(
            self.fit.cut(resize_image(image, size, self.fit.antialias), corner, 0.0),
            self.fit.cut(semantic, corner, WIDE_VOID),
            self.fit.cut(instance, corner, 0),
            stem,
        )

    def _to_sample(self, image: Tensor, semantic: Tensor, instance: Tensor, stem: str) -> Sample:
        semantic = semantic.clamp(max=self.split.pseudo_classes.total)
        sem_seg = self._to_channel[semantic]
        ids, inverse = numbered(instance)
        thing_of = self._majority_things(semantic, inverse, len(ids))
        thing_of[ids == 0] = -1
        if self.ignore_unknown_things:
            sem_seg[(sem_seg == 0) & (instance == 0)] = WIDE_VOID
        # An instance of stuff alone is contradictory evidence: it teaches neither head (CUPS).
        inside, is_thing = instance > 0, thing_of[inverse] >= 0
        sem_seg = torch.where(inside, torch.where(is_thing, 0, WIDE_VOID), sem_seg)
        kept = torch.nonzero(thing_of >= 0).flatten()
        return Sample(image, sem_seg, inverse == kept[:, None, None], thing_of[kept], stem)

    def _majority_things(self, semantic: Tensor, inverse: Tensor, count: int) -> Tensor:
        """Return (count,) int64: thing index of each instance's most frequent thing class, -1 without any.

        As `cups.ops.panoptic.to_panoptic`, by which labels are scored: stuff has no vote beside things.
        """
        size = len(self._to_thing)
        votes = torch.bincount((inverse * size + semantic).flatten(), minlength=count * size)
        votes = votes.reshape(count, size).masked_fill(self._to_thing < 0, 0)
        return torch.where(votes.any(dim=1), self._to_thing[votes.argmax(dim=1)], -1)

    def hold_out(self: Own, count: int) -> tuple[Own, FittedImages]:
        """Split off the images of about `count` frames, as `UnlabelledImages.hold_out` does.

        Returns:
            (the frames to train on, the images held out).
        """
        held = held_out_indices(len(self), count)
        chosen = [self.stems[index] for index in held] or self.stems
        rest = copy(self)
        rest.__dict__.pop("all_pixels", None)  # where it was counted over all frames before
        rest.stems = [stem for stem in self.stems if stem not in set(chosen)] or self.stems
        return rest, FittedImages({stem: self.image_path(stem) for stem in chosen}, self.fit)
