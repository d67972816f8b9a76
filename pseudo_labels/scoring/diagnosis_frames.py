"""What is wrong with each frame of a folder in the CUPS format, and what the frames add up to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from cups.data.image_finder import ImageFinder
from cups.data.pseudo_label_dataset import align_labels
from cups.errors import UserError
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import read_ids, read_image
from cups.ops.resize import scaled_size
from cups.taxonomy import void_value
from pseudo_labels.scoring.alignment import EdgeFit, Peak, edge_fit

Level = Literal["defect", "note"]
Problem = tuple[Level, str, str]
"""Level, name of the check, and what is wrong with one frame."""

CLEAR_PEAK = 10.0
"""Clearness from which a best offset is believed. Labels unrelated to their images stay below 6."""
CLEAR_SCORE = 0.1
"""Edge strength from which a best offset is believed."""
UNRELATED = 3.0
"""Edge strength at offset 0, in units of its noise, below which borders have nothing to do with edges."""


@dataclass(frozen=True)
class FrameReport:
    """What one frame's files hold.

    Attributes:
        problems: what was found wrong with it.
        pixels, inside: (n,) int64 pixels of each semantic id, all and inside instances, void left out.
        instances: number of instances.
        size: (H, W) of the label files, None if they could not be read.
        fit: border-edge correlation, None if it could not be computed.
    """

    stem: str
    problems: tuple[Problem, ...] = ()
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    inside: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    instances: int = 0
    size: tuple[int, int] | None = None
    fit: EdgeFit | None = None


class DiagnosedFrames(Dataset[FrameReport]):
    """Reads one frame after the other.

    Args:
        folder: in the CUPS format.
        stems: frames.
        num_classes: K, or None where statistics do not tell.
        find_image: finds images.
        scale: that training brings images to size with.
        reach: largest offset of borders against edges, as a share of the height; 0: none are computed.
    """

    def __init__(
        self,
        folder: Path,
        stems: Sequence[str],
        num_classes: int | None,
        find_image: ImageFinder,
        scale: float,
        reach: float,
    ) -> None:
        self.folder = folder
        self.stems = list(stems)
        self.num_classes = num_classes
        self.find_image = find_image
        self.scale = scale
        self.reach = reach

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> FrameReport:
        stem = self.stems[index]
        paths = [self.folder / f"{stem}{suffix}" for suffix in (SEMANTIC_SUFFIX, INSTANCE_SUFFIX)]
        if missing := [path for path in paths if not path.is_file()]:
            return _bad(stem, "pairs", f"no {_ending(missing[0], stem)}; convert the pseudo-labels again")
        try:
            semantic, instance = (read_ids(path) for path in paths)
        except UserError as error:
            return _bad(stem, "readable", str(error))
        if semantic.shape != instance.shape:
            text = (
                f"semantic {size_text(semantic.shape)}, instance {size_text(instance.shape)}; convert again"
            )
            return _bad(stem, "sizes", text)
        void = _void(semantic, self.num_classes)
        problems = list(_id_problems(semantic, instance, self.num_classes, void))
        labels = np.where(semantic == void, -1, semantic.astype(np.int64) * 65536 + instance)
        fit, more = self._compare_with_image(stem, labels)
        known = semantic != void
        return FrameReport(
            stem,
            (*problems, *more),
            np.bincount(semantic[known]),
            np.bincount(semantic[known & (instance > 0)]),
            len(np.unique(instance[instance > 0])),
            (semantic.shape[0], semantic.shape[1]),
            fit,
        )

    def _compare_with_image(self, stem: str, labels: np.ndarray) -> tuple[EdgeFit | None, list[Problem]]:
        try:
            image = read_image(self.find_image(stem))
        except UserError as error:
            return None, [("defect", "images", str(error))]
        raw = (image.shape[0], image.shape[1])
        name = f"{stem}{SEMANTIC_SUFFIX}"
        try:
            align_labels(torch.from_numpy(labels), raw, scaled_size(raw, self.scale), name)
        except UserError as error:
            return None, [("defect", "sizes", str(error))]
        return (edge_fit(image, labels, -1, self.reach) if self.reach > 0 else None), []


def _bad(stem: str, check: str, message: str) -> FrameReport:
    return FrameReport(stem, (("defect", check, message),))


def _ending(path: Path, stem: str) -> str:
    return path.name[len(stem) :]


def size_text(shape: tuple[int, ...]) -> str:
    """Return "96x192" of (height, width)."""
    return f"{shape[0]}x{shape[1]}"


def _void(semantic: np.ndarray, num_classes: int | None) -> int:
    if num_classes is None:
        return 255 if semantic.dtype == np.uint8 else 65535
    return void_value(num_classes)


def _id_problems(
    semantic: np.ndarray, instance: np.ndarray, num_classes: int | None, void: int
) -> Iterator[Problem]:
    known = semantic != void
    if not known.any():
        yield "defect", "empty", "every pixel is void; generate the semantics again"
    highest = int(semantic.max(initial=0, where=known))
    if num_classes is not None and highest >= num_classes:
        yield (
            "defect",
            "ids",
            f"semantic id {highest}, but there are {num_classes} pseudo-classes (void is {void}); "
            "convert again with the right `num_semantic_classes`",
        )
    if not instance.any():
        yield "note", "empty", "no instance; training leaves the image out"
        return
    pairs = np.unique(instance[instance > 0].astype(np.int64) * 65536 + semantic[instance > 0])
    mixed = len(pairs) - len(np.unique(pairs // 65536))
    if mixed:
        yield "note", "uniform", "instances hold several semantic ids; training takes the most frequent"


@dataclass
class FolderSums:
    """What the frames add up to; frames are not kept.

    Attributes:
        pixels, inside, images: pixels of each semantic id, all and inside instances, and images with it.
        instances, frames, without_instance: numbers.
        sizes: {label size: frames}.
        fits: {size of comparison: border-edge correlation}.
        problems: {(level, check): [(stem, message)]}.
        displaced, unrelated: frames whose own borders fit the edges elsewhere, or nowhere.
    """

    pixels: np.ndarray = field(default_factory=lambda: np.zeros(65536, np.int64))
    inside: np.ndarray = field(default_factory=lambda: np.zeros(65536, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(65536, np.int64))
    instances: int = 0
    frames: int = 0
    without_instance: int = 0
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    fits: dict[tuple[int, int], EdgeFit] = field(default_factory=dict)
    problems: dict[tuple[Level, str], list[tuple[str, str]]] = field(default_factory=dict)
    displaced: list[str] = field(default_factory=list)
    unrelated: list[str] = field(default_factory=list)

    def add(self, frame: FrameReport, tolerance: float) -> None:
        """Add one frame; tolerance: see `is_displaced`."""
        self.frames += 1
        self.pixels[: len(frame.pixels)] += frame.pixels
        self.images[: len(frame.pixels)] += frame.pixels > 0
        self.inside[: len(frame.inside)] += frame.inside
        self.instances += frame.instances
        for level, check, message in frame.problems:
            self.problems.setdefault((level, check), []).append((frame.stem, message))
        if frame.size is not None:
            self.sizes[frame.size] = self.sizes.get(frame.size, 0) + 1
            self.without_instance += frame.instances == 0
        if frame.fit is not None:
            size, fit = frame.fit.size, frame.fit
            self.fits[size] = self.fits[size] + fit if size in self.fits else fit
            peak = fit.peak()
            if is_displaced(peak, size, tolerance):
                self.displaced.append(frame.stem)
            elif is_unrelated(peak):
                self.unrelated.append(frame.stem)


def is_displaced(peak: Peak, size: tuple[int, int], tolerance: float) -> bool:
    """Return whether borders fit edges clearly better elsewhere.

    tolerance: offset that is allowed, as a share of the height (two pixels always are).
    """
    distance = max(abs(peak.down), abs(peak.right))
    clear = peak.clearness >= CLEAR_PEAK and peak.score >= CLEAR_SCORE
    return clear and distance > max(2.0, tolerance * size[0]) and peak.at_zero < 0.8 * peak.score


def is_unrelated(peak: Peak) -> bool:
    """Return whether edges are no stronger under the borders than anywhere."""
    return peak.at_zero < UNRELATED * peak.noise
