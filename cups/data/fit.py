"""How training frames of any size are brought to one size: the rule of both training stages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cups.defaults import Fitting
from cups.io.png import image_size
from cups.ops.resize import center_crop_or_pad, scaled_size
from cups.ops.spread import spread_places

log = logging.getLogger(__name__)

PUBLISHED_SIZE = (1024, 2048)
"""(H, W) of Cityscapes: `DATA.SCALE` and the centre crop are made for it."""
STRIDE = 32
"""Sides of a canvas are multiples of it: the network pads others."""
SAMPLE = 200
"""Frames whose headers tell the typical size."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Fit:
    """The geometry of the training frames.

    Attributes:
        canvas: (H, W) of what the network is shown.
        working_size: (H, W) of a typical frame after scaling, before cropping.
        scale: factor of every frame, whose centre is cut out and padded (CUPS). None brings each frame to
            the working height, or to the width of the canvas if it is narrower; a place is drawn for the cut.
    """

    canvas: Size
    working_size: Size
    scale: float | None

    def size(self, raw: Size) -> Size:
        """Return the (H, W) to which a frame of `raw` pixels is scaled."""
        if self.scale is not None:
            return scaled_size(raw, self.scale)
        factor = max(self.working_size[0] / raw[0], self.canvas[1] / raw[1])
        height, width = scaled_size(raw, factor)
        return max(height, self.canvas[0]), max(width, self.canvas[1])

    @property
    def antialias(self) -> bool:
        """Whether frames are smoothed as they shrink; large photos flicker otherwise, CUPS does not."""
        return self.scale is None

    def corner(self, size: Size, generator: torch.Generator | None = None) -> Size:
        """Return (top, left) of the cut in a scaled frame: drawn, or the centre's without a generator."""
        free = [max(0, side - target) for side, target in zip(size, self.canvas, strict=True)]
        if generator is None or self.scale is not None:
            return free[0] // 2, free[1] // 2
        top, left = (int(torch.randint(room + 1, (), generator=generator)) for room in free)
        return top, left

    def cut(self, tensor: Tensor, corner: Size, fill: float) -> Tensor:
        """Return the canvas (..., H, W) of a scaled frame or its labels; what is missing is `fill`."""
        (top, left), (height, width) = corner, self.canvas
        return center_crop_or_pad(tensor[..., top : top + height, left : left + width], self.canvas, fill)


def choose_fit(typical: Size, scale: float, crop: Size, mode: Fitting = "auto") -> Fit:
    """Return the geometry for frames of a typical size.

    "scale" is the published one: every frame is scaled by `scale`, and its centre cut or padded to `crop`.
    "auto" is the same for frames of Cityscapes' size, and where `scale` makes frames just as large as the
    crop. Frames of other sizes are brought down to the height of the crop, never enlarged, and the crop ends
    where they do.

    Args:
        typical: (H, W) of the image files, the median.
        scale: `DATA.SCALE`.
        crop: `DATA.CROP_RESOLUTION`.
        mode: `DATA.FIT`.
    """
    scaled = scaled_size(typical, scale)
    if mode == "scale" or scaled == crop:
        return Fit(crop, scaled, scale)
    if typical == PUBLISHED_SIZE:
        padded = padding_share(scaled, crop) > 0.5
        return Fit(_clipped(crop, scaled) if padded else crop, scaled, scale)
    working = scaled_size(typical, min(1.0, crop[0] / typical[0]))
    return Fit(_clipped(crop, working), working, None)


def draw_generator(seed: int, number: int) -> torch.Generator:
    """Return the randomness of a training draw: a function of the run's seed and its running number."""
    state = np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def _clipped(crop: Size, size: Size) -> Size:
    height, width = (
        most if side >= most else max(side - side % STRIDE, min(side, STRIDE))
        for most, side in zip(crop, size, strict=True)
    )
    return height, width


def padding_share(size: Size, canvas: Size) -> float:
    """Return the share of a canvas, 0-1, that a frame of `size` leaves empty."""
    return 1.0 - _common(size, canvas) / (canvas[0] * canvas[1])


def used_share(size: Size, canvas: Size) -> float:
    """Return the share of a frame of `size`, 0-1, that one canvas shows."""
    return _common(size, canvas) / (size[0] * size[1])


def _common(size: Size, canvas: Size) -> int:
    return min(size[0], canvas[0]) * min(size[1], canvas[1])


def typical_size(files: Sequence[Path]) -> Size:
    """Return the median (H, W) of image files, from the headers of at most `SAMPLE` spread evenly."""
    sizes = np.array([image_size(files[index]) for index in spread_places(len(files), SAMPLE)])
    height, width = np.median(sizes, axis=0).round().astype(int).tolist()
    return height, width


def tell_fit(fit: Fit, typical: Size, scale: float, crop: Size) -> None:
    """Log with numbers what the keys would do to own frames, and what is done; nothing where they fit."""
    if fit.scale is not None and fit.canvas == crop and padding_share(fit.working_size, crop) <= 0.5:
        return
    adapted = fit.scale is None or fit.canvas != crop
    cure = (
        f"instead they are brought to {_text(fit.working_size)} and cropped to {_text(fit.canvas)}: "
        + _shares(fit.working_size, fit.canvas)
    )
    log.warning(
        "frames of %s (median): DATA.SCALE %g and the crop %s leave %s; %s",
        _text(typical),
        scale,
        _text(crop),
        _shares(scaled_size(typical, scale), crop),
        f"{cure} (DATA.FIT scale would not adapt)" if adapted else "DATA.FIT auto would adapt",
    )


def _shares(size: Size, canvas: Size) -> str:
    padding, used = padding_share(size, canvas), used_share(size, canvas)
    return f"{padding:.0%} of the canvas as padding and use {used:.0%} of a frame"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
