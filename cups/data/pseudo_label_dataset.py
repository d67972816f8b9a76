"""Pseudo-labels in the CUPS format as training samples.

The alignment rule: image and labels pass through the same geometry, whatever size the label files have.
Scaling the image alone and cropping both, as upstream does, displaces labels stored at image size by up to
384 pixels at 1024x2048.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cups import defaults
from cups.data.fit import choose_fit, typical_size
from cups.data.frame_check import check_frames, check_label_size
from cups.data.image_finder import ImageFinder
from cups.data.labelled_frames import LabelledFrames
from cups.errors import UserError
from cups.io.checkpoint import read_file
from cups.io.file_names import (
    ALL_PIXELS,
    CUPS_FOLDER,
    INSIDE_INSTANCES,
    INSTANCE_SUFFIX,
    SEMANTIC_SUFFIX,
)
from cups.io.png import read_ids
from cups.label_split import label_split
from cups.ops.resize import resize_ids
from cups.structures import Sample, ThingStuffSplit

CONVERT = (
    "run pseudo_labels/convert_to_cups_format.py, or pseudo_labels/convert_other_labels.py on labels of "
    "another tool"
)
"""What makes a folder of training labels."""


def align_labels(
    labels: Tensor, raw_size: tuple[int, int], size: tuple[int, int], name: str = "labels"
) -> Tensor:
    """Bring an id map to the size that the image has after scaling.

    Args:
        labels: (H, W) integer ids as stored.
        raw_size: (H, W) of the image file.
        size: (H, W) of the image after `DATA.SCALE`.
        name: file named in the error.

    Returns:
        (size) ids: unchanged at `size`, nearest-resized once from `raw_size` or the same aspect ratio.

    Raises:
        UserError: a size whose aspect ratio is not the image's within one pixel.
    """
    height, width = labels.shape
    if (height, width) == size:
        return labels
    check_label_size((height, width), raw_size, name)
    return resize_ids(labels, size)


def load_statistics(folder: Path) -> tuple[Tensor, Tensor]:
    """Sum the `.pt` files of a pseudo-label folder: pixels per pseudo-class, all and inside instances.

    Returns:
        Two (num_pseudo_classes,) float64 tensors.

    Raises:
        UserError: no statistics, or files that do not hold them.
    """
    files = sorted(folder.glob("*.pt"))
    if not files:
        raise UserError(f"{folder}: no .pt statistics; run pseudo_labels/convert_to_cups_format.py")
    totals: dict[str, Tensor] = {}
    for file in files:
        try:
            stored = read_file(file)
            parts = {key: stored[key].double() for key in (ALL_PIXELS, INSIDE_INSTANCES)}
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{file}: not pseudo-label statistics ({reason}); convert again") from None
        for key, value in parts.items():
            if key in totals and totals[key].shape != value.shape:
                raise UserError(
                    f"{file}: another number of pseudo-classes than its neighbours; convert again"
                )
            totals[key] = totals.get(key, torch.zeros_like(value)) + value
    return totals[ALL_PIXELS], totals[INSIDE_INSTANCES]


class PseudoLabelDataset(LabelledFrames):
    """Frames with pseudo-labels in the CUPS format.

    Args:
        root: data root with `leftImg8bit/` or `leftImg8bit_sequence/`, or a plain folder of images,
            or a video.
        pseudo_root: flat folder of `*_semantic.png`, `*_instance.png` and `*.pt`.
        scale, crop, fit: how frames are brought to one size, see `cups.data.fit.choose_fit`; what is missing
            is padded (image 0, semantic void).
        thing_stuff_threshold: take the published rule with this number instead of the split that lies
            beside the labels, see `label_split`.
        ignore_unknown_things: thing pixels outside every instance become void, not "some thing".
        only_non_empty: leave out frames without an instance.
        augment: `(sample, generator) -> sample`, seeded per draw; needs `Draw` indices.
        split: things and stuff of the network to go on with, whatever the labels say by now.

    Raises:
        UserError: missing folders or images, no labels, or files that do not fit each other.
    """

    def __init__(
        self,
        root: Path | str,
        pseudo_root: Path | str,
        scale: float = defaults.SCALE,
        crop: tuple[int, int] = defaults.CROP,
        thing_stuff_threshold: float | None = None,
        ignore_unknown_things: bool = defaults.IGNORE_UNKNOWN_THINGS,
        only_non_empty: bool = defaults.ONLY_NON_EMPTY,
        max_images: int | None = None,
        augment: Callable[[Sample, torch.Generator], Sample] | None = None,
        seed: int = 0,
        fit: defaults.Fitting = defaults.FIT,
        split: ThingStuffSplit | None = None,
    ) -> None:
        self.root, self.pseudo_root = Path(root), Path(pseudo_root)
        stems = self._list_stems(only_non_empty)[:max_images]
        self.pixels, self.inside = load_statistics(self.pseudo_root)
        split = split or label_split(self.pseudo_root, self.pixels, self.inside, thing_stuff_threshold)
        self._images = ImageFinder(self.root, self.pseudo_root)
        files = self._images.all(stems)
        check_frames(files, [self._label_files(stem) for stem in stems])
        self.typical_size = typical_size(files)
        chosen = choose_fit(self.typical_size, scale, crop, fit)
        super().__init__(stems, split, chosen, ignore_unknown_things, augment, seed)

    @property
    def all_pixels(self) -> Tensor:
        """(K,) pixels of each pseudo-class, as the statistics tell."""
        return self.pixels

    def image_path(self, stem: str) -> Path:
        """Return the image of a frame, see `ImageFinder`."""
        return self._images(stem)

    def labels(self, stem: str, raw_size: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return semantics and instances at the size of the image after scaling, see `align_labels`."""
        semantic, instance = (
            align_labels(_read_labels(path), raw_size, size, str(path)) for path in self._label_files(stem)
        )
        return semantic, instance

    def _label_files(self, stem: str) -> tuple[Path, Path]:
        """Return the files of semantics and instances of a frame."""
        semantic, instance = (f"{stem}{suffix}" for suffix in (SEMANTIC_SUFFIX, INSTANCE_SUFFIX))
        return self.pseudo_root / semantic, self.pseudo_root / instance

    def _list_stems(self, only_non_empty: bool) -> list[str]:
        if self.pseudo_root.is_file():
            raise UserError(f"{self.pseudo_root}: is no folder of training labels; {CONVERT}")
        if not self.pseudo_root.is_dir():
            raise UserError(f"{self.pseudo_root}: no such folder; {_where_labels_lie(self.pseudo_root)}")
        stems = sorted(p.name[: -len(SEMANTIC_SUFFIX)] for p in self.pseudo_root.glob(f"*{SEMANTIC_SUFFIX}"))
        if not stems:
            raise UserError(f"{self.pseudo_root}: holds no *{SEMANTIC_SUFFIX}; {CONVERT}")
        for stem in stems:
            path = self.pseudo_root / f"{stem}{INSTANCE_SUFFIX}"
            if not path.is_file():
                raise UserError(f"{path}: no such file; convert the pseudo-labels again")
        if not only_non_empty:
            return stems
        with ThreadPoolExecutor() as pool:
            non_empty = list(pool.map(self._has_instance, stems))
        kept = [stem for stem, keep in zip(stems, non_empty, strict=True) if keep]
        if not kept:
            raise UserError(
                f"{self.pseudo_root}: no frame has an instance; regenerate them, "
                "or set DATA.ONLY_NON_EMPTY_SAMPLES False"
            )
        return kept

    def _has_instance(self, stem: str) -> bool:
        return bool(read_ids(self.pseudo_root / f"{stem}{INSTANCE_SUFFIX}").any())


def _where_labels_lie(missing: Path) -> str:
    """Return what to do about a missing folder: choose one of those beside it, if there are any."""
    beside = sorted(path.name for path in missing.parent.glob(f"{CUPS_FOLDER}*") if path.is_dir())
    found = f"beside it lie {', '.join(beside)}: give one" if beside else "give the pseudo-labels"
    return f"{found} with `pseudo_root`"


def _read_labels(path: Path) -> Tensor:
    return torch.from_numpy(read_ids(path).astype(np.int64))
