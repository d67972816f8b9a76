"""Inputs of the refinement networks: reading, training crops, feature statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from cups.errors import UserError
from cups.io.png import read_image
from cups.ops.depth_edges import resize_depth
from cups.ops.resize import resize_ids, resize_image
from cups.structures import Draw
from cups.taxonomy import void_value
from pseudo_labels.inputs.features import read_features
from pseudo_labels.inputs.labels import check_aspect, read_depth, read_semantic
from pseudo_labels.steps.frames import Folder, Frame

STATISTICS_FRAMES = 100
GUIDE_CHANNELS = 16
INPUTS = ("semantic_subdir", "features_subdir", "depth_subdir")
"""Settings that name the folders; a network keeps those that it was trained on."""


@dataclass(frozen=True)
class RefineFolders:
    """Where the inputs of a refinement network lie, and the number of label rows at which it works."""

    features: Folder
    depth: Folder
    semantics: Folder
    height: int

    @classmethod
    def of(
        cls, root: Path, height: int, *, semantic_subdir: str, features_subdir: str, depth_subdir: str
    ) -> RefineFolders:
        """Return the folders of these names under `root`."""
        return cls(
            Folder(root, features_subdir, ".npy"),
            Folder(root, depth_subdir, ".npy"),
            Folder(root, semantic_subdir, ".png"),
            height,
        )

    @property
    def directories(self) -> list[Path]:
        """The folders read, for provenance."""
        return [folder.directory for folder in (self.features, self.depth, self.semantics)]

    def require(self, frames: Sequence[Frame]) -> None:
        """Raise a `UserError` that names the first missing file and the step that writes it."""
        self.features.require(frames, "run extract_dinov2_features.py first, or check `features_subdir`")
        self.depth.require(frames, "run generate_depth_spidepth.py first, or check `depth_subdir`")
        self.semantics.require(frames, "generate the semantics first, or check `semantic_subdir`")

    def read(self, frame: Frame, num_classes: int) -> RefineInput:
        """Read the inputs of one frame.

        Raises:
            UserError: unreadable files, shapes that do not fit together, classes beyond `num_classes`.
        """
        image = torch.from_numpy(read_image(frame.image)).permute(2, 0, 1).float() / 255
        full = (image.shape[1], image.shape[2])
        semantic = read_semantic(self.semantics.path(frame), num_classes)
        depth = read_depth(self.depth.path(frame))
        for folder, array in ((self.semantics, semantic), (self.depth, depth)):
            check_aspect(folder.path(frame), array.shape, full)
        size = working_size(semantic.shape, self.height)
        labels = torch.from_numpy(semantic.astype(np.int64))
        labels[labels == void_value(num_classes)] = -1
        # A network's map is small and meant to be interpolated; larger ones are thinned out.
        depth = resize_depth(depth, size, sharp=depth.shape[0] >= size[0])
        log_depth = torch.from_numpy(np.log(depth))
        return RefineInput(
            torch.from_numpy(read_features(self.features, frame)).permute(2, 0, 1),
            (log_depth - log_depth.median())[None],
            resize_image(image, size, antialias=True),
            resize_ids(labels, size),
            (semantic.shape[0], semantic.shape[1]),
        )


@dataclass(frozen=True, eq=False)
class RefineInput:
    """What a refinement network sees of one frame.

    Attributes:
        features: (D, h, w) float32.
        log_depth: (1, H, W) float32, median 0.
        image: (3, H, W) float32 in 0-1.
        labels: (H, W) int64, -1 = void.
        label_size: (H, W) of the semantic map on disk.
    """

    features: Tensor
    log_depth: Tensor
    image: Tensor
    labels: Tensor
    label_size: tuple[int, int]


def working_size(size: tuple[int, int], height: int) -> tuple[int, int]:
    """Return (H, W) of a label map of `size` brought down to `height` rows; smaller ones stay."""
    if size[0] <= height:
        return size
    return height, max(1, round(size[1] * height / size[0]))


class RefinementFrames(Dataset[dict[str, Tensor]]):
    """Random crops for training.

    Items: the tensors of `RefineInput` (features of the crop alone), plus those of `extras`.

    Args:
        crop: side of the crops in pixels of the working size; whole feature tokens are taken.

    Raises:
        UserError: crops of another size than those of the first frame; they cannot share a batch.
    """

    def __init__(
        self, frames: Sequence[Frame], folders: RefineFolders, num_classes: int, crop: int, seed: int
    ) -> None:
        self.frames = list(frames)
        self.folders = folders
        self.num_classes = num_classes
        self.crop = crop
        self.seed = seed
        self.first = self._lengths(folders.read(self.frames[0], num_classes))

    def __len__(self) -> int:
        return len(self.frames)

    def _lengths(self, whole: RefineInput) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return (tokens, pixels) of the height and of the width of crops."""
        grid, size = whole.features.shape[1:], whole.labels.shape
        height, width = (_part_lengths(*sides, self.crop) for sides in zip(grid, size, strict=True))
        return height, width

    def extras(self, frame: Frame, whole: RefineInput) -> dict[str, Tensor]:
        """Return further maps of a frame, (H, W) at the working size."""
        return {}

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        frame = self.frames[draw.frame]
        whole = self.folders.read(frame, self.num_classes)
        lengths = self._lengths(whole)
        if lengths != self.first:
            (_, height), (_, width) = lengths
            (_, first_height), (_, first_width) = self.first
            raise UserError(
                f"{frame.image}: its crops are {height}x{width} pixels, those of {self.frames[0].image} "
                f"{first_height}x{first_width}; give a smaller `crop`, or train on images of one size"
            )
        rng = np.random.default_rng((self.seed, draw.number))
        parts = (
            _random_part(rng, tokens, pixels, *length)
            for tokens, pixels, length in zip(
                whole.features.shape[1:], whole.labels.shape, lengths, strict=True
            )
        )
        tokens, pixels = zip(*parts, strict=True)
        item = {
            "features": whole.features[(..., *tokens)],
            "log_depth": whole.log_depth[(..., *pixels)],
            "image": whole.image[(..., *pixels)],
            "labels": whole.labels[pixels],
            **{name: maps[pixels] for name, maps in self.extras(frame, whole).items()},
        }
        mirror = bool(rng.random() < 0.5)
        return {name: (maps.flip(-1) if mirror else maps).contiguous() for name, maps in item.items()}


def _part_lengths(tokens: int, length: int, crop: int) -> tuple[int, int]:
    """Return the number of tokens about `crop` pixels long, and that of the pixels under them."""
    count = min(tokens, max(1, round(crop * tokens / length)))
    return count, round(count * length / tokens)


def _random_part(
    rng: np.random.Generator, tokens: int, length: int, count: int, pixels: int
) -> tuple[slice, slice]:
    """Return a random run of `count` of the tokens, and the `pixels` of `length` under it."""
    first = int(rng.integers(tokens - count + 1))
    start = min(round(first * length / tokens), length - pixels)
    return slice(first, first + count), slice(start, start + pixels)


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Per-channel mean and deviation (D,), and the strongest directions (P, D) of standardised features."""

    mean: Tensor
    std: Tensor
    basis: Tensor


def feature_statistics(frames: Sequence[Frame], features: Folder) -> FeatureStatistics:
    """Measure features over evenly chosen frames.

    The basis is scaled so that two tokens drawn at random lie at a root mean square distance of about 1.

    Raises:
        UserError: unreadable files, or numbers of channels that differ.
    """
    total: np.ndarray | None = None
    square, count = np.zeros((0, 0)), 0
    for frame in tqdm(frames[:: -(-len(frames) // STATISTICS_FRAMES)], desc="feature statistics", unit="img"):
        tokens = read_features(features, frame).astype(np.float64)
        tokens = tokens.reshape(-1, tokens.shape[2])
        if total is None:
            total, square = np.zeros(tokens.shape[1]), np.zeros((tokens.shape[1],) * 2)
        elif tokens.shape[1] != len(total):
            raise UserError(
                f"{features.path(frame)}: {tokens.shape[1]} channels, others have {len(total)}; "
                "extract the features again"
            )
        total, square, count = total + tokens.sum(0), square + tokens.T @ tokens, count + len(tokens)
    assert total is not None
    mean = total / count
    covariance = square / count - np.outer(mean, mean)
    std = np.sqrt(np.maximum(np.diag(covariance), 1e-8))
    values, vectors = np.linalg.eigh(covariance / np.outer(std, std))
    kept = slice(-GUIDE_CHANNELS, None)
    # Two independent draws differ by twice the variance.
    scale = 1 / math.sqrt(max(2 * values[kept].sum(), 1e-8))
    basis = scale * vectors[:, kept].T
    return FeatureStatistics(*(torch.tensor(array, dtype=torch.float32) for array in (mean, std, basis)))
