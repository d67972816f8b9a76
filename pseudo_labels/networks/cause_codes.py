"""Codes of a whole image by sliding windows: a backbone, CAUSE heads, and how windows are put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cups.backbones import autocast, normalize
from cups.backbones.names import TEXTON, is_own, own_rows
from cups.io.png import read_image
from cups.ops.resize import resize_image
from pseudo_labels.settings.cause import WINDOW_BATCH
from refs.cause import Cluster, SegmentTR, flip_average
from refs.cause.modules.segment import nearest_code


@dataclass(frozen=True)
class Tiling:
    """How an image is cut: resized to `height` pixels (0: as it is), windows of `window`, every `stride`.

    For a local backbone `height` is a limit: smaller images are not enlarged.
    """

    height: int
    window: int
    stride: int


TOKENS_AT_ONCE = 1024
"""Tokens that are compared with a codebook at a time: its scores stay in a cache."""
PUBLISHED_TILING = Tiling(height=644, window=322, stride=161)
TEXTON_TILING = Tiling(height=192, window=96, stride=48)
"""Windows of half the height, as the published ones, so that their number does not grow with the image."""


def default_tiling(backbone: str, patch: int) -> Tiling:
    """Return the published tiling in whole patches, or a small one for the local backbone.

    Patches of 14 pixels give CAUSE's own numbers; patches of 16 windows of 320 pixels (20 x 20 tokens).
    """
    if backbone == TEXTON:
        return TEXTON_TILING
    if is_own(backbone):
        # Half the height that it was trained at, as CAUSE's windows are of its images.
        rows = own_rows(backbone) // (2 * patch) * 2 * patch or PUBLISHED_TILING.height // patch * patch
        side = max(patch, rows // 2 // patch * patch)
        return Tiling(rows, side, max(1, side // 2))
    height, window = (
        round(side / patch) * patch for side in (PUBLISHED_TILING.height, PUBLISHED_TILING.window)
    )
    return Tiling(height, window, window // 2)


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Fixed per-channel centring of backbone features, fitted without labels by `train_cause`.

    CAUSE compares features by relu(cosine); all-positive features would all look alike.
    """

    mean: Tensor
    std: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D, H, W), zero mean and unit (or weighted) variance over the fitting images."""
        return (features - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)

    def to(self, device: torch.device) -> Standardizer:
        """Return a copy on `device`."""
        return Standardizer(self.mean.to(device), self.std.to(device))


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """Backbone, resizing and standardisation as one thing: image file -> features."""

    name: str
    backbone: nn.Module
    tiling: Tiling
    device: torch.device
    standardizer: Standardizer | None = None
    precision: torch.dtype = torch.float32
    batch: int = WINDOW_BATCH
    """Windows that the backbone takes at once."""

    @property
    def patch(self) -> int:
        """Pixels per token."""
        return int(self.backbone.patch_size)  # type: ignore[arg-type]

    @property
    def window(self) -> int:
        """Tokens along one side of a window."""
        return self.tiling.window // self.patch

    @property
    def stride(self) -> int:
        """Pixels between windows; whole tokens where windows are cut out of one feature map."""
        stride = self.tiling.stride
        return max(self.patch, stride // self.patch * self.patch) if self.backbone.local else stride

    def image(self, path: Path) -> Tensor:
        """Read an image and resize it for the backbone: see `prepare`."""
        return self.prepare(torch.from_numpy(read_image(path))[None])

    def prepare(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H', W') normalised, on the device.

        H' and W' are whole patches, and at least one window.
        """
        pixels = normalize(images.to(self.device, non_blocking=True))
        size = self.size(*pixels.shape[-2:])
        return resize_image(pixels, size, antialias=size[0] < pixels.shape[-2])

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size (H', W') to which `prepare` brings an image."""
        target = self.tiling.height or height
        target = min(target, height) if self.backbone.local else target
        scale = max(target / height, self.tiling.window / height, self.tiling.window / width)
        return self._whole(height * scale), self._whole(width * scale)

    def _whole(self, pixels: float) -> int:
        # The same number of patches for every image of one shape; at least one window.
        return max(self.tiling.window, round(pixels / self.patch) * self.patch)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> standardised features (B, D, H/p, W/p), on the device."""
        with autocast(self.device, self.precision):
            features = self.backbone(images.to(self.device, non_blocking=True)).float()
        return self.standardizer(features) if self.standardizer is not None else features

    def starts(self, length: int) -> list[int]:
        """Return the first pixels of the windows along a side of `length` pixels."""
        return _starts(length, self.tiling.window, self.stride)

    def places(self, image: Tensor) -> list[tuple[int, int]]:
        """Return (top, left) in pixels of the windows of a prepared image (1, 3, H, W)."""
        return [(top, left) for top in self.starts(image.shape[2]) for left in self.starts(image.shape[3])]

    def spread_evenly(self, height: int, width: int) -> bool:
        """Return whether the windows of an image of this size, mirrored, lie where its windows lie."""
        width = self.size(height, width)[1]
        lefts = self.starts(width)
        return lefts == [width - self.tiling.window - left for left in reversed(lefts)]

    def windows(self, image: Tensor, places: Sequence[tuple[int, int]], mirror: bool = False) -> Tensor:
        """Return the features (N, D, w, w) of the windows at `places` of an image (1, 3, H, W).

        mirror: of each window's own mirror image. (Windows cut out of the mirrored image would lie elsewhere
            wherever the windows are not spread evenly.)
        """
        if self.backbone.local:
            # A feature knows its neighbourhood alone: the mirrored window is a part of the mirrored image.
            return self.cut(self.features(image.flip(3) if mirror else image)[0], places, mirror)
        size = self.tiling.window
        crops = torch.cat([image[..., y : y + size, x : x + size] for y, x in places])
        crops = crops.flip(3) if mirror else crops
        return torch.cat([self.features(part) for part in crops.split(self.batch)])

    def cut(self, cells: Tensor, places: Sequence[tuple[int, int]], mirror: bool = False) -> Tensor:
        """Cut the windows at `places` out of a map of the whole image: (..., H/p, W/p) -> (N, ..., w, w).

        mirror: the map is that of the mirror image.
        """
        p, w, columns = self.patch, self.window, cells.shape[-1]
        starts = [(y // p, columns - w - x // p if mirror else x // p) for y, x in places]
        return torch.stack([cells[..., y : y + w, x : x + w] for y, x in starts])


@dataclass(frozen=True, eq=False)
class CauseModel:
    """Trained heads with the extractor they were trained on."""

    extractor: FeatureExtractor
    segment: SegmentTR
    cluster: Cluster
    weights: list[dict[str, Any]] = field(default_factory=list)
    flip: bool = True
    """Average the codes of each window and of its mirror image (CAUSE's test-time flip)."""

    @property
    def num_classes(self) -> int:
        """Rows of the cluster probe."""
        return len(self.cluster.cluster_probe)

    @torch.no_grad()
    def codes(self, image: Tensor) -> Tensor:
        """Return one code per token: prepared image (1, 3, H, W) -> (Hc, Wc, reduced_dim) on the device.

        Windows overlap; each token takes the mean over the windows that cover it, where a window that lies
        half a token off the image's grid is sampled bilinearly.
        """
        places = self.extractor.places(image)
        views = [self._view(image, places, mirror) for mirror in ((False, True) if self.flip else (False,))]
        patch, side = self.extractor.patch, self.extractor.window
        grid = (image.shape[-2] // patch, image.shape[-1] // patch)
        total, weight = None, views[0][0].new_zeros(grid)
        for part in torch.arange(len(places)).split(self.extractor.batch):
            codes = self._window_codes([(features[part], nearest[part]) for features, nearest in views])
            total = codes.new_zeros((codes.shape[1], *grid)) if total is None else total
            for index, code in zip(part.tolist(), codes, strict=True):
                (rows, down), (columns, across) = (
                    _sampling(start / patch, side, length)
                    for start, length in zip(places[index], grid, strict=True)
                )
                total[:, rows, columns] += down.to(code) @ code @ across.to(code).T
                weight[rows, columns] += (down.sum(1)[:, None] * across.sum(1)).to(code)
        assert total is not None
        return (total / weight.clamp_min(1e-6)).permute(1, 2, 0)

    def _view(self, image: Tensor, places: Sequence[tuple[int, int]], mirror: bool) -> tuple[Tensor, Tensor]:
        """Return the features (N, D, w, w) of windows, and the codebook's row nearest to each: (N, w, w)."""
        if self.extractor.backbone.local:
            # Windows overlap: each cell is compared with the codebook once, not once for each window.
            whole = self.extractor.features(image.flip(3) if mirror else image)
            features, nearest = whole[0], self._nearest(whole)[0]
            return tuple(self.extractor.cut(part, places, mirror) for part in (features, nearest))  # type: ignore[return-value]
        features = self.extractor.windows(image, places, mirror)
        return features, self._nearest(features)

    def _nearest(self, features: Tensor) -> Tensor:
        """(N, D, h, w) features -> (N, h, w) int64 rows of the codebook."""
        tokens = features.permute(0, 2, 3, 1).flatten(0, 2)
        parts = [nearest_code(part, self.cluster.codebook) for part in tokens.split(TOKENS_AT_ONCE)]
        return torch.cat(parts).view(features.shape[0], *features.shape[2:])

    def _window_codes(self, views: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the codes of windows, the mean of their views: (N, D, w, w) -> (N, reduced_dim, w, w)."""
        grid = (views[0][0].shape[2], views[0][0].shape[3])
        plain, *flipped = (
            self.segment.head_ema(
                features.flatten(2).transpose(1, 2), self.cluster.codebook, grid, nearest.flatten(1)
            )
            for features, nearest in views
        )
        codes = flip_average(plain, flipped[0], grid) if flipped else plain
        return codes.transpose(1, 2).unflatten(2, grid)


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Window starts that cover `length`; the last one ends at the border."""
    starts = list(range(0, max(length - window, 0) + 1, stride))
    if starts[-1] + window < length:
        starts.append(length - window)
    return starts


def _sampling(offset: float, side: int, length: int) -> tuple[slice, Tensor]:
    """Return the image's tokens that a window may cover, (n,), and (n, side): bilinear weights of its tokens.

    Those of the image's tokens that lie outside are 0.
    """
    covered = slice(max(0, math.floor(offset)), min(length, math.ceil(offset) + side))
    position = torch.arange(length, dtype=torch.float32)[covered] - offset
    inside = (position > -0.75) & (position < side - 0.25)
    position = position.clamp(0, side - 1)
    tokens = torch.arange(side, dtype=torch.float32)
    return covered, (1 - (position[:, None] - tokens).abs()).clamp_min(0) * inside[:, None]
