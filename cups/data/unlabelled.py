"""Images alone, for self-training: no pseudo-label and no ground truth is opened."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from copy import copy
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from cups.data.utils import image_tensor
from cups.errors import UserError
from cups.io.images import (
    but_ignored,
    frame_names,
    frame_stem,
    is_image_source,
    list_city_images,
    report_images,
    scan_images,
)
from cups.io.png import read_image
from cups.ops.resize import center_crop_or_pad, resize_image, scaled_size
from cups.structures import Draw, LoadedImage

log = logging.getLogger(__name__)


def training_images(root: Path, folder: str) -> list[tuple[str, Path]]:
    """Return name and file of the training images: `{folder}/train/*/*`, or all of a plain folder or video.

    Names are stems in the Cityscapes layout, else those of `cups.io.images.frame_names`.

    Raises:
        UserError: missing folder, or one without images.
    """
    if not is_image_source(root):
        raise UserError(f"{root}: no such folder; give the data root with `data_root`")
    train, ignored = root / folder / "train", Counter[str]()
    if train.is_dir():
        files = list_city_images(train)
        names = [frame_stem(path) for path in files]
    else:
        others = sorted(path.name for path in root.glob("leftImg8bit*") if (path / "train").is_dir())
        if others:
            raise UserError(f"{train}: no such folder; set SELF_TRAINING.IMAGES to {' or '.join(others)}")
        listing = scan_images(root)
        files, ignored = listing.images, listing.ignored
        names = frame_names(root, files)
    place = train if train.is_dir() else root
    if not files:
        raise UserError(f"{place}: holds no image{but_ignored(ignored)}; check `data_root`")
    log.info("%s: %s", place, report_images(files, ignored))
    return list(zip(names, files, strict=True))


class UnlabelledImages(Dataset[LoadedImage]):
    """Training images, scaled and cropped as those of Stage 2, without any label.

    Args:
        root: data root with `{folder}/train/{city}/`, or a plain folder of images.
        folder: `leftImg8bit` or `leftImg8bit_sequence` (every frame of the clips, 30 times as many).
        scale: resize factor.
        crop: centre crop (H, W) after scaling; smaller frames are padded with 0.
    """

    def __init__(
        self,
        root: Path | str,
        folder: str,
        scale: float,
        crop: tuple[int, int],
        max_images: int | None = None,
    ) -> None:
        self.images = training_images(Path(root), folder)[:max_images]
        self.scale, self.crop = scale, crop

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: int | Draw) -> LoadedImage:
        index = draw.frame if isinstance(draw, Draw) else draw
        name, path = self.images[index]
        image: Tensor = image_tensor(read_image(path))
        size = scaled_size((image.shape[-2], image.shape[-1]), self.scale)
        image = center_crop_or_pad(resize_image(image, size), self.crop, 0.0)
        return LoadedImage(image, name, index=index)

    def hold_out(self, count: int) -> tuple[UnlabelledImages, UnlabelledImages]:
        """Split off about `count` images, evenly spread over the sorted list and at most a quarter of it.

        Returns:
            (the rest, the images held out). A list of fewer than four images is not split: both hold all.
        """
        count = min(count, len(self) // 4)
        if count == 0:
            return self, self
        held = set(np.linspace(0, len(self) - 1, count).round().astype(int).tolist())
        return self._part(set(range(len(self))) - held), self._part(held)

    def _part(self, indices: Iterable[int]) -> UnlabelledImages:
        part = copy(self)
        part.images = [self.images[index] for index in sorted(indices)]
        return part
