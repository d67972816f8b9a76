"""Small helpers of the datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cups.errors import UserError
from cups.ops.png import read_image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def image_tensor(image: np.ndarray) -> Tensor:
    """Convert (H, W, 3) uint8 RGB to (3, H, W) float32 in 0-1."""
    return torch.from_numpy(image).permute(2, 0, 1).float().div_(255.0)


def image_array(image: Tensor) -> np.ndarray:
    """Convert (3, H, W) float in 0-1 to (H, W, 3) uint8 RGB."""
    pixels = image.detach().clamp(0, 1).mul(255.0).round().byte()
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()


class ImageFolder(Dataset[dict[str, object]]):
    """Every image below a folder, sub-folders included, for prediction on one's own data.

    Items: `{"image": (3, H, W) float32 RGB 0-1, "name": path relative to the folder, without suffix}`.
    """

    def __init__(self, folder: Path | str, max_images: int | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: no such folder; give a folder of images with --image_dir")
        files = (path for path in self.folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        self.files = sorted(files)[:max_images]
        if not self.files:
            raise UserError(f"{self.folder}: holds no {', '.join(IMAGE_SUFFIXES)} file; check --image_dir")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, object]:
        path = self.files[index]
        name = str(path.relative_to(self.folder).with_suffix(""))
        return {"image": image_tensor(read_image(path)), "name": name}


class StepSampler(Sampler[int]):
    """Indices for a fixed number of optimisation steps, as one long epoch, the same on every machine.

    Each pass over the data is a fresh seeded permutation; ranks take every `world_size`-th index, so under DDP
    no frame is seen twice before all were seen once. Starting at `first_step` continues the very sequence
    that an interrupted run would have had.

    Args:
        num_samples: length of the data set.
        batch_size: samples per step and rank (times accumulated micro-batches).
        steps: optimisation steps of the whole run.
        first_step: step to start from.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        steps: int,
        seed: int = 0,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.first_step = first_step
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return max(0, self.steps - self.first_step) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        first = self.first_step * self.batch_size
        permutation, current_pass = np.empty(0, dtype=np.int64), -1
        for count in range(first, self.steps * self.batch_size):
            position = count * self.world_size + self.rank
            which_pass, offset = divmod(position, self.num_samples)
            if which_pass != current_pass:
                permutation = np.random.default_rng((self.seed, which_pass)).permutation(self.num_samples)
                current_pass = which_pass
            yield int(permutation[offset])


def identity_collate(batch: Sequence[object]) -> list[object]:
    """Keep a batch as a list: instances per frame differ in number."""
    return list(batch)
