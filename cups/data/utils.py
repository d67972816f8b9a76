"""Small helpers of the datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cups.errors import UserError
from cups.io.file_names import IMAGE_SUFFIXES
from cups.io.png import read_image
from cups.taxonomy import VOID


def image_tensor(image: np.ndarray) -> Tensor:
    """Convert (H, W, 3) uint8 RGB to (3, H, W) float32 in 0-1."""
    return torch.from_numpy(image).permute(2, 0, 1).float().div_(255.0)


def image_array(image: Tensor) -> np.ndarray:
    """Convert (3, H, W) float in 0-1 to (H, W, 3) uint8 RGB."""
    pixels = image.detach().clamp(0, 1).mul(255.0).round().byte()
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()


def with_void(target: Tensor, void: int) -> Tensor:
    """Return ground truth (H, W, 2) of (class, instance) with void classes `void` instead of 255."""
    if void == VOID:
        return target
    category, instance = target.unbind(-1)
    return torch.stack((category.masked_fill(category == VOID, void), instance), dim=-1)


class ImageFolder(Dataset[dict[str, object]]):
    """Every image below a folder, sub-folders included, for prediction on one's own data.

    `images` lists name and file of each: the name is the path relative to the folder, without suffix.
    Items: `{"image": (3, H, W) float32 RGB 0-1, "name": str}`.
    """

    def __init__(self, folder: Path | str, max_images: int | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: no such folder; give a folder of images with --image_dir")
        files = (path for path in self.folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        names = [(str(path.relative_to(self.folder).with_suffix("")), path) for path in sorted(files)]
        self.images = names[:max_images]
        if not self.images:
            raise UserError(f"{self.folder}: holds no {', '.join(IMAGE_SUFFIXES)} file; check --image_dir")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, object]:
        name, path = self.images[index]
        return {"image": image_tensor(read_image(path)), "name": name}


def identity_collate(batch: Sequence[Any]) -> list[Any]:
    """Keep a batch as a list: frames differ in their numbers of instances, and in size."""
    return list(batch)
