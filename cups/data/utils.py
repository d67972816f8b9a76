"""Small helpers of the datasets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cups.errors import UserError
from cups.io.images import but_ignored, frame_names, is_image_source, report_images, scan_images
from cups.io.png import read_image
from cups.structures import LoadedImage

log = logging.getLogger(__name__)


def image_tensor(image: np.ndarray) -> Tensor:
    """Convert (H, W, 3) uint8 RGB to (3, H, W) float32 in 0-1."""
    return torch.from_numpy(image).permute(2, 0, 1).float().div_(255.0)


def image_array(image: Tensor) -> np.ndarray:
    """Convert (3, H, W) float in 0-1 to (H, W, 3) uint8 RGB."""
    pixels = image.detach().clamp(0, 1).mul(255.0).round().byte()
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()


class ImageFolder(Dataset[LoadedImage]):
    """Every image below a folder, or frame of a video, for prediction on one's own data; no ground truth.

    `images` lists name and file of each: the name is the path relative to the folder, without suffix
    (`cups.io.images.frame_names`).

    Args:
        folder: a folder, sub-folders included; a video; or one image.
    """

    def __init__(self, folder: Path | str, max_images: int | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_file() and not is_image_source(self.folder):
            raise UserError(f"{self.folder}: no such folder; give a folder of images, a video or an image")
        listing = scan_images(self.folder)
        names = frame_names(self.folder, listing.images)
        self.images = list(zip(names, listing.images, strict=True))[:max_images]
        if not self.images:
            raise UserError(
                f"{self.folder}: holds no image{but_ignored(listing.ignored)}; give a folder of images, a "
                "video or an image"
            )
        log.info("%s: %s", self.folder, report_images([path for _, path in self.images], listing.ignored))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> LoadedImage:
        name, path = self.images[index]
        return LoadedImage(image_tensor(read_image(path)), name, index=index)


def identity_collate(batch: Sequence[Any]) -> list[Any]:
    """Keep a batch as a list: frames differ in their numbers of instances, and in size."""
    return list(batch)
