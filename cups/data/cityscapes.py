"""Cityscapes layout: finding frames, reading ground truth (evaluation only), the validation dataset."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cups.data.utils import image_tensor
from cups.defaults import NUM_CLASSES, VAL_SPLIT
from cups.errors import UserError
from cups.io.file_names import IMAGE_SUFFIX
from cups.io.images import frame_stem, list_city_images
from cups.io.png import read_ids, read_image
from cups.labels.id_schemes import FIRST_NUMBERED_ID, check_numbering
from cups.ops.panoptic_map import PanopticMap
from cups.ops.resize import center_crop_or_pad, resize_image, scaled_size
from cups.ops.spread import spread_places
from cups.structures import LoadedImage
from cups.taxonomy import VOID, ClassSet, class_set


@dataclass(frozen=True)
class GroundTruthFrame:
    """Paths of one frame with ground truth; `stem` is `{city}_{seq:06}_{frame:06}`."""

    stem: str
    image: Path
    label_ids: Path
    instance_ids: Path


def ground_truth_paths(root: Path, split: str, city: str, stem: str) -> tuple[Path, Path]:
    """Return the paths of labelIds and instanceIds of a frame."""
    folder = root / "gtFine" / split / city
    return folder / f"{stem}_gtFine_labelIds.png", folder / f"{stem}_gtFine_instanceIds.png"


def list_ground_truth_frames(root: Path, split: str) -> list[GroundTruthFrame]:
    """Return the frames of a split that have an image and ground truth, sorted by name.

    Raises:
        UserError: missing folder, no images, or an image without its ground truth.
    """
    folder = root / "leftImg8bit" / split
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the Cityscapes root with `data_root`")
    frames = []
    for image in list_city_images(folder):
        stem = frame_stem(image)
        labels, instances = ground_truth_paths(root, split, image.parent.name, stem)
        for path in (labels, instances):
            if not path.is_file():
                raise UserError(f"{path}: no such file; unpack gtFine beside leftImg8bit")
        frames.append(GroundTruthFrame(stem, image, labels, instances))
    if not frames:
        raise UserError(f"{folder}: no *{IMAGE_SUFFIX} inside; check the data set")
    return frames


def read_panoptic_target(label_ids: Path, instance_ids: Path, classes: ClassSet) -> PanopticMap:
    """Read ground truth as a panoptic map of classes.

    Void is (255, 0). Numbered things get instances 1..n per image; a thing pixel without a number (a group
    region) keeps instance 0, which the metric's standard rule treats as a crowd.

    Raises:
        UserError: unreadable files, or two files of different sizes.
    """
    return panoptic_target(*read_ground_truth(label_ids, instance_ids), classes)


def read_ground_truth(label_ids: Path, instance_ids: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read label ids and instance ids of a frame, both (H, W) as stored.

    Raises:
        UserError: unreadable files, or two files of different sizes.
    """
    labels, instances = read_ids(label_ids), read_ids(instance_ids)
    if labels.shape != instances.shape:
        raise UserError(
            f"{instance_ids}: size {instances.shape}, labelIds {labels.shape}; unpack gtFine again"
        )
    return labels, instances


def check_ground_truth(frames: Sequence[GroundTruthFrame], classes: ClassSet) -> None:
    """Look at a few frames before any is scored; see `cups.labels.id_schemes`.

    Raises:
        UserError: another numbering than Cityscapes', or ground truth that is void everywhere.
    """
    files = [(frame.label_ids, frame.instance_ids) for frame in frames]
    check_numbering(files, lambda index: read_ground_truth(*files[index]), classes)


def panoptic_target(labels: np.ndarray, instances: np.ndarray, classes: ClassSet) -> PanopticMap:
    """Return the panoptic map of Cityscapes label ids and instance ids, both (H, W).

    `read_panoptic_target` says what the values mean.
    """
    stored = PanopticMap.from_maps(labels, instances)
    category = classes.of_ids(stored.category)
    numbered = (stored.instance >= FIRST_NUMBERED_ID) & np.isin(category, classes.things)
    values, instance = np.unique(np.where(numbered, stored.instance, 0), return_inverse=True)
    # Number the objects from 1 whether or not the value 0 (no object) occurs.
    return PanopticMap(stored.ids, category, instance + (0 if values[0] == 0 else 1))


Own = TypeVar("Own", bound="CityscapesPanopticValidation")


class CityscapesPanopticValidation(Dataset[LoadedImage]):
    """Images with panoptic ground truth, for evaluation.

    Args:
        root: Cityscapes root.
        split: folder under `leftImg8bit` and `gtFine`.
        num_classes: 27, 19 or 7, or the classes themselves.
        scale: resize factor of image and labels.
        crop: centre crop (H, W) after resizing, or None; smaller frames are padded with 0 and void.
        max_images: take the first frames only.
        select: pattern of the names of frames, as in a shell; empty for all.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = VAL_SPLIT,
        num_classes: int | ClassSet = NUM_CLASSES,
        scale: float = 1.0,
        crop: tuple[int, int] | None = None,
        max_images: int | None = None,
        select: str = "",
    ) -> None:
        self.select = select
        self.frames = self.list_frames(Path(root), split)[:max_images]
        self.classes = num_classes if isinstance(num_classes, ClassSet) else class_set(num_classes)
        self.scale = scale
        self.crop = crop
        self.check()

    @staticmethod
    def has_ground_truth(root: Path, split: str) -> bool:
        """Return whether a data root holds ground truth of a split at all."""
        return all((root / folder / split).is_dir() for folder in ("leftImg8bit", "gtFine"))

    def list_frames(self, root: Path, split: str) -> list[GroundTruthFrame]:
        """Return the frames of a split."""
        frames = list_ground_truth_frames(root, split)
        chosen = [frame for frame in frames if not self.select or fnmatchcase(frame.stem, self.select)]
        if not chosen:
            raise UserError(
                f"{root}: none of the {len(frames)} frames, such as {frames[0].stem}, is named {self.select};"
                " give another pattern with DATA.VAL_FRAMES"
            )
        return chosen

    def part(self: Own, count: int) -> Own:
        """Return `count` of the frames, spread evenly over them, or all where there are fewer."""
        some = copy(self)
        some.frames = [self.frames[index] for index in spread_places(len(self), count)]
        return some

    def check(self) -> None:
        """Refuse ground truth that cannot be scored; see `check_ground_truth`."""
        check_ground_truth(self.frames, self.classes)

    def read_target(self, frame: GroundTruthFrame) -> PanopticMap:
        """Read the ground truth of a frame."""
        return read_panoptic_target(frame.label_ids, frame.instance_ids, self.classes)

    @property
    def images(self) -> list[tuple[str, Path]]:
        """Name and image file of each frame, in order."""
        return [(frame.stem, frame.image) for frame in self.frames]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> LoadedImage:
        frame = self.frames[index]
        image = image_tensor(read_image(frame.image))
        target = self.read_target(frame)
        if image.shape[-2:] != target.shape:
            raise UserError(f"{frame.label_ids}: size differs from {frame.image.name}; unpack it again")
        image, target = self._geometry(image, target)
        return LoadedImage(image, frame.stem, target, index)

    def _geometry(self, image: Tensor, target: PanopticMap) -> tuple[Tensor, PanopticMap]:
        size = scaled_size((image.shape[-2], image.shape[-1]), self.scale)
        image, target = resize_image(image, size), target.resized(size)
        if self.crop is None:
            return image, target
        padded, void = target.padded_row(VOID)
        ids = center_crop_or_pad(torch.from_numpy(padded.ids.astype(np.int32)), self.crop, void)
        return center_crop_or_pad(image, self.crop, 0.0), padded.with_ids(
            ids.numpy().astype(padded.ids.dtype)
        )
