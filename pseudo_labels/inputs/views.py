"""Pairs of overlapping views of images, as self-supervised training compares them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import gaussian_blur

from cups.backbones import normalize
from cups.io.png import read_image
from cups.ops.resize import resize_image
from cups.structures import Draw
from pseudo_labels.inputs.sequences import change_colors

JITTER, SATURATION = 0.4, 0.2
"""Largest relative changes of brightness and contrast, and of saturation (SimCLR: 0.8 for each; colour tells
much of a street)."""
GRAY, BLUR = 0.1, 0.5
"""Chances of a view to lose its colours, and to be blurred."""
BLUR_SIGMA = (0.1, 1.5)


class ViewPairs(Dataset[dict[str, Tensor]]):
    """Two views of each image drawn, of places that overlap, in other sizes, colours and sharpness.

    Items: `views` (2, 3, crop, crop) float32, normalised as backbones take them; `grids` (2, g, g, 2), the
    (x, y) in the image, in sides of a view, of what each place of the last stage shows.

    Args:
        height: rows that images are brought to; 0: as they are.
        crop: side of the views; stride: pixels a place.
        scale, shift: see `TrainBackboneSettings`.
        cache_bytes: memory for resized images.
    """

    def __init__(
        self,
        images: Sequence[Path],
        height: int,
        crop: int,
        stride: int,
        scale: tuple[float, float],
        shift: float,
        seed: int = 0,
        cache_bytes: int = 0,
    ) -> None:
        self.images, self.height, self.crop, self.stride = images, height, crop, stride
        self.scale, self.shift, self.seed = scale, shift, seed
        self._room = cache_bytes
        self._cache: dict[Path, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, draw.number))
        image = torch.from_numpy(self._image(self.images[draw.frame])).permute(2, 0, 1).float() / 255
        sides = [min(self.crop * self._size(rng), *image.shape[1:]) for _ in range(2)]
        first = rng.uniform(0, 1, 2) * (np.array(image.shape[1:]) - sides[0])
        centre = first + sides[0] / 2 + rng.uniform(-self.shift, self.shift, 2) * sides[0]
        second = np.clip(centre - sides[1] / 2, 0, np.array(image.shape[1:]) - sides[1])
        views, grids = [], []
        for corner, side in ((first, sides[0]), (second, sides[1])):
            mirrored = bool(rng.random() < 0.5)
            views.append(self._changed(self._cut(image, corner, side, mirrored), rng))
            grids.append(self._grid(corner, side, mirrored))
        return {"views": torch.stack(views), "grids": torch.stack(grids)}

    def _size(self, rng: np.random.Generator) -> float:
        low, high = np.log(self.scale)
        return float(np.exp(rng.uniform(low, high)))

    def _cut(self, image: Tensor, corner: np.ndarray, side: float, mirrored: bool) -> Tensor:
        top, left = (int(at) for at in corner)
        length = max(1, int(side))
        part = image[:, top : top + length, left : left + length]
        view = resize_image(part[None], (self.crop, self.crop), antialias=length > self.crop)[0]
        return view.flip(2) if mirrored else view

    def _grid(self, corner: np.ndarray, side: float, mirrored: bool) -> Tensor:
        count = self.crop // self.stride
        places = (torch.arange(count) + 0.5) / count * (side / self.crop)
        y, x = (places + float(at) / self.crop for at in corner)
        columns = x.flip(0) if mirrored else x
        return torch.stack(torch.meshgrid(columns, y, indexing="xy"), dim=-1)

    def _changed(self, view: Tensor, rng: np.random.Generator) -> Tensor:
        spread = np.array([JITTER, JITTER, SATURATION])
        factors = rng.uniform(1 - spread, 1 + spread)
        if rng.random() < GRAY:
            factors[2] = 0
        changed = change_colors(view[None], torch.from_numpy(factors).float()[None])
        if rng.random() < BLUR:
            changed = gaussian_blur(changed, [5, 5], [float(rng.uniform(*BLUR_SIGMA))] * 2)
        return normalize(changed)[0]

    def _image(self, path: Path) -> np.ndarray:
        """Return the (H, W, 3) uint8 image at the height of the training."""
        if path in self._cache:
            return self._cache[path]
        image = read_image(path)
        if self.height and image.shape[0] != self.height:
            size = (self.height, max(1, round(image.shape[1] * self.height / image.shape[0])))
            pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
            resized = F.interpolate(
                pixels, size=size, mode="bilinear", align_corners=False, antialias=self.height < len(image)
            )
            image = resized[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        if image.nbytes <= self._room:
            self._cache[path] = image
            self._room -= image.nbytes
        return image
