"""Training crops of the refinement networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cups.errors import UserError
from cups.structures import Draw
from pseudo_labels.inputs.refine_inputs import RefineFolders, RefineView
from pseudo_labels.networks.frozen_features import FeatureSource, Window
from pseudo_labels.steps.frames import Frame


class RefinementFrames(Dataset[dict[str, Tensor]]):
    """Random crops for training.

    Items: `log_depth`, `image` and `labels` of the crop, `features` and `window` (what `FeatureSource.crops`
    makes features of), and the maps of `extras`.

    Args:
        crop: side of the crops in pixels of the working size; whole feature tokens are taken.

    Raises:
        UserError: crops of another size than those of the first frame; they cannot share a batch.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        folders: RefineFolders,
        features: FeatureSource,
        num_classes: int,
        crop: int,
        seed: int,
    ) -> None:
        self.frames = list(frames)
        self.folders = folders
        self.features = features
        self.num_classes = num_classes
        self.crop = crop
        self.seed = seed
        first = self.frames[0]
        self.first = self._lengths(features.sample(first), folders.view(first).size)

    def __len__(self) -> int:
        return len(self.frames)

    def _lengths(self, sample: Tensor, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return (tokens, pixels) of the height and of the width of crops."""
        sides = zip(self.features.grid(sample), size, strict=True)
        height, width = (_part_lengths(tokens, pixels, self.crop) for tokens, pixels in sides)
        return height, width

    def label_scale(self, frame: Frame) -> float:
        """Return the rows of the labels of a frame in those of its image: that of refined labels too."""
        view = self.folders.view(frame)
        _, size = self.folders.labels(frame, view, self.num_classes)
        return size[0] / view.image_size[0]

    def extras(self, frame: Frame, view: RefineView, label_size: tuple[int, int]) -> dict[str, Tensor]:
        """Return further maps of a frame, (H, W) at the working size."""
        return {}

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        frame = self.frames[draw.frame]
        view, sample = self.folders.view(frame), self.features.sample(frame)
        labels, label_size = self.folders.labels(frame, view, self.num_classes)
        lengths = self._lengths(sample, view.size)
        if lengths != self.first:
            (_, height), (_, width) = lengths
            (_, first_height), (_, first_width) = self.first
            raise UserError(
                f"{frame.image}: its crops are {height}x{width} pixels, those of {self.frames[0].image} "
                f"{first_height}x{first_width}; give a smaller `crop`, or train on images of one size"
            )
        rng = np.random.default_rng((self.seed, draw.number))
        (top, rows), (left, columns) = (
            _random_part(rng, tokens, pixels, *length)
            for tokens, pixels, length in zip(self.features.grid(sample), view.size, lengths, strict=True)
        )
        (tall, _), (wide, _) = lengths
        mirrored = bool(rng.random() < 0.5)
        window = Window(top, left, tall, wide, mirrored)
        pixels = {
            "log_depth": view.log_depth,
            "image": view.image,
            "labels": labels,
            **self.extras(frame, view, label_size),
        }
        parts = {name: maps[..., rows, columns] for name, maps in pixels.items()}
        return {
            "features": self.features.cut(sample, window),
            "window": torch.tensor(window),
            **{name: (maps.flip(-1) if mirrored else maps).contiguous() for name, maps in parts.items()},
        }


def _part_lengths(tokens: int, length: int, crop: int) -> tuple[int, int]:
    """Return the number of tokens about `crop` pixels long, and that of the pixels under them."""
    count = min(tokens, max(1, round(crop * tokens / length)))
    return count, round(count * length / tokens)


def _random_part(
    rng: np.random.Generator, tokens: int, length: int, count: int, pixels: int
) -> tuple[int, slice]:
    """Return the first of `count` random tokens in a row, and the `pixels` of `length` under them."""
    first = int(rng.integers(tokens - count + 1))
    start = min(round(first * length / tokens), length - pixels)
    return first, slice(start, start + pixels)
