"""A share of a data set's ground truth as training samples: for fine-tuning alone."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cups import defaults
from cups.data.cityscapes import CityscapesPanopticValidation
from cups.data.fit import choose_fit, typical_size
from cups.data.labelled_frames import Augment, LabelledFrames
from cups.errors import UserError
from cups.ops.panoptic_map import PanopticMap
from cups.structures import ThingStuffSplit


def labelled_share(count: int, fraction: float, seed: int) -> list[int]:
    """Return the places of the frames whose labels are used, rising; at least one.

    A larger fraction of one seed holds all frames of a smaller one, so that points of a curve differ by
    labels that are added.

    Args:
        count: of all frames.
        fraction: above 0, at most 1.
    """
    order = np.random.default_rng((seed, count)).permutation(count)
    return sorted(order[: max(1, round(fraction * count))].tolist())


class GroundTruthFrames(LabelledFrames):
    """Frames of a data set with its ground truth; the classes of the network are those of the data set.

    Args:
        truth: all frames of the training split at full size.
        fraction: share whose labels are used, see `labelled_share`.
        seed: of the share, and of augmentation.
        scale, crop, fit: how frames are brought to one size, see `cups.data.fit.choose_fit`.
        ignore_unknown_things: groups of objects without numbers become void, not "some thing".
        max_images: take the share of the first frames alone.
        augment: see `LabelledFrames`.

    Raises:
        UserError: classes of which none are things, or none stuff.
    """

    def __init__(
        self,
        truth: CityscapesPanopticValidation,
        fraction: float = 1.0,
        seed: int = 0,
        scale: float = defaults.SCALE,
        crop: tuple[int, int] = defaults.CROP,
        fit: defaults.Fitting = defaults.FIT,
        ignore_unknown_things: bool = defaults.IGNORE_UNKNOWN_THINGS,
        max_images: int | None = None,
        augment: Augment | None = None,
    ) -> None:
        self.truth, self.classes = truth, truth.classes
        split = ThingStuffSplit(self.classes.things, self.classes.stuffs)
        if not split.things or not split.stuffs:
            kind = "stuff" if split.things else "things"
            raise UserError(
                f"{self.classes.file or self.classes.name}: no class is {kind}; a network needs some"
            )
        images = truth.images[:max_images]
        self.available = len(images)
        self._places = {images[place][0]: place for place in labelled_share(len(images), fraction, seed)}
        files = [images[place][1] for place in self._places.values()]
        self.typical_size = typical_size(files)
        chosen = choose_fit(self.typical_size, scale, crop, fit)
        super().__init__(list(self._places), split, chosen, ignore_unknown_things, augment, seed)

    def image_path(self, stem: str) -> Path:
        """Return the image of a frame."""
        return self.truth.images[self._places[stem]][1]

    def labels(self, stem: str, raw_size: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return classes (255 void) and instances (0 none, and groups) at the size of the scaled image.

        Raises:
            UserError: labels of another size than the image.
        """
        target = self._target(stem)
        if target.shape != raw_size:
            raise UserError(f"{self.image_path(stem)}: its ground truth has another size; unpack it again")
        target = target.resized(size)
        maps = (target.categories, target.instances)
        semantic, instance = (torch.from_numpy(part.astype(np.int64)) for part in maps)
        return semantic, instance

    @cached_property
    def all_pixels(self) -> Tensor:
        """(C,) pixels of each class in the labels that are used; it reads all of them."""
        counts = torch.zeros(self.classes.num_classes, dtype=torch.float64)
        for stem in self.stems:
            found = torch.from_numpy(self._target(stem).categories.astype(np.int64)).flatten()
            counts += torch.bincount(found, minlength=256)[: len(counts)]
        return counts

    def _target(self, stem: str) -> PanopticMap:
        return self.truth.read_target(self.truth.frames[self._places[stem]])
