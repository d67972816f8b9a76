"""A weight-free backbone: oriented filter energies, colour and local statistics.

The classical texture descriptor (Leung & Malik, IJCV 2001; Malik et al., IJCV 2001) with a Gabor quadrature
bank on an octave pyramid. It stands in for a self-supervised network where no weights can be had: everything
is deterministic and local, nothing is learned and nothing knows where in the image it is.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ORIENTATIONS = 6
OCTAVES = 4
WAVELENGTH = 4.0
"""Pixels, on every octave level: 4, 8, 16 and 32 pixels of the image."""
COLOR_SIGMAS = (5.0, 14.0)
SPREAD_SIGMAS = (2.0, 6.0)
ENERGY_WEIGHT = 0.5
"""Of each filter energy against each colour and spread channel: there are 24 of them, and they overlap."""
ENERGY_FLOOR = 0.3
"""In units of lightness (0-100): below it, differences of energy are camera noise."""


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert (B, 3, H, W) sRGB in 0-1 to CIE Lab (D65): L in 0-100, a and b about -100..100."""
    # In place where a new map would only cost memory; the same numbers to the bit.
    linear = torch.where(
        rgb > 0.04045, rgb.clamp_min(0).add_(0.055).div_(1.055).pow_(2.4), torch.div(rgb, 12.92)
    )
    to_xyz = rgb.new_tensor(
        [
            [0.412453 / 0.950456, 0.357580 / 0.950456, 0.180423 / 0.950456],
            [0.212671, 0.715160, 0.072169],
            [0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754],
        ]
    )
    xyz = torch.einsum("ij,bjhw->bihw", to_xyz, linear)
    root = torch.where(xyz > 0.008856, xyz.clamp_min(1e-6).pow_(1 / 3), (7.787 * xyz).add_(16 / 116))
    x, y, z = root.unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def gaussian_kernel(sigma: float) -> Tensor:
    """Return a normalised one-dimensional kernel of odd length, cut at 2.5 sigma."""
    radius = max(1, math.ceil(2.5 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return kernel / kernel.sum()


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, H, W); borders are repeated."""
    return _blur(maps, sigma, (1, 1))


def _blur(maps: Tensor, sigma: float, step: tuple[int, int]) -> Tensor:
    """Blur (B, C, H, W) and average cells of `step` pixels: (B, C, H // step[0], W // step[1]).

    The mean of blurred pixels is one wider filter, and only the cells' own values of it are computed.
    """
    kernel = gaussian_kernel(sigma).to(maps)
    radius, channels = len(kernel) // 2, maps.shape[1]
    column, row = (_with_mean(kernel, pixels) for pixels in step)
    column = column.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    row = row.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    maps = F.pad(maps, (radius, radius, 0, 0), mode="replicate")
    maps = F.conv2d(maps, row, stride=(1, step[1]), groups=channels)
    maps = F.pad(maps, (0, 0, radius, radius), mode="replicate")
    return F.conv2d(maps, column, stride=(step[0], 1), groups=channels)


def _with_mean(kernel: Tensor, pixels: int) -> Tensor:
    """Return the kernel that filters, then takes the mean of `pixels` neighbours."""
    mean = kernel.new_full((1, 1, pixels), 1 / pixels)
    return F.conv1d(F.pad(kernel, (pixels - 1, pixels - 1))[None, None], mean).flatten()


def blur_to_grid(maps: Tensor, sigma: float, grid: tuple[int, int]) -> Tensor:
    """Return `to_grid(blur(maps, sigma), grid)`, up to rounding, without blurring what is averaged after."""
    step = maps.shape[-2] // grid[0], maps.shape[-1] // grid[1]
    if (grid[0] * step[0], grid[1] * step[1]) == tuple(maps.shape[-2:]):
        return _blur(maps, sigma, step)
    return to_grid(blur(maps, sigma), grid)


def gabor_bank(wavelength: float = WAVELENGTH, orientations: int = ORIENTATIONS) -> Tensor:
    """Return a quadrature Gabor bank: (2 * orientations, 1, S, S), even kernels first, all with zero mean."""
    sigma = 0.5 * wavelength
    radius = math.ceil(2.5 * sigma)
    axis = torch.arange(-radius, radius + 1, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    envelope = torch.exp(-0.5 * (x**2 + y**2) / sigma**2)
    angles = torch.arange(orientations, dtype=torch.float32) * math.pi / orientations
    phase = (
        2
        * math.pi
        / wavelength
        * (torch.cos(angles)[:, None, None] * x + torch.sin(angles)[:, None, None] * y)
    )
    even, odd = envelope * torch.cos(phase), envelope * torch.sin(phase)
    even = even - envelope * (even.sum((1, 2), keepdim=True) / envelope.sum())
    bank = torch.cat((even, odd))
    return (bank / bank.abs().sum((1, 2), keepdim=True) * 2).unsqueeze(1)


class Texton(nn.Module):
    """Texture and colour descriptors on a grid of `patch_size` pixels.

    Channels, in order: log energies (octaves x orientations), Lab means of the cell and at two wider scales,
    log spreads of L, a and b at two scales. Each is scaled by a fixed constant so that all vary by about one
    unit over street scenes; `train_cause` measures the exact mean and spread of a data set on top of that.
    """

    local = True
    """Features depend on the neighbourhood alone, so they may be computed for a whole image and cut after."""

    bank: Tensor
    mean: Tensor
    std: Tensor
    channel_weights: Tensor

    def __init__(self, patch_size: int = 4) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.embed_dim = OCTAVES * ORIENTATIONS + 3 * (1 + len(COLOR_SIGMAS)) + 3 * len(SPREAD_SIGMAS)
        weights = torch.ones(self.embed_dim)
        weights[: OCTAVES * ORIENTATIONS] = ENERGY_WEIGHT
        self.register_buffer("channel_weights", weights, persistent=False)
        self.register_buffer("bank", gabor_bank(), persistent=False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> (B, embed_dim, H // patch_size, W // patch_size)."""
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        images = images[..., : grid[0] * self.patch_size, : grid[1] * self.patch_size]
        lab = rgb_to_lab((images * self.std).add_(self.mean).clamp_(0, 1))
        return torch.cat((self._energies(lab[:, :1], grid), self._colors(lab, grid)), dim=1)

    def _energies(self, lightness: Tensor, grid: tuple[int, int]) -> Tensor:
        out, level = [], lightness
        radius = self.bank.shape[-1] // 2
        for octave in range(OCTAVES):
            padded = F.pad(level, (radius,) * 4, mode="replicate")
            even, odd = F.conv2d(padded, self.bank).chunk(2, dim=1)
            energy = even.square_().add_(odd.square_()).sqrt_()
            energy = blur_to_grid(energy, 2.0 if octave == 0 else 1.0, grid)
            out.append(torch.log(energy + ENERGY_FLOOR) - math.log(1.5))
            if octave + 1 < OCTAVES:
                level = F.avg_pool2d(blur(level, 0.8), 2, ceil_mode=True)
        return torch.cat(out, dim=1)

    def _colors(self, lab: Tensor, grid: tuple[int, int]) -> Tensor:
        scale = lab.new_tensor([20.0, 10.0, 10.0]).view(1, 3, 1, 1)
        offset = lab.new_tensor([50.0, 0.0, 0.0]).view(1, 3, 1, 1)
        # Everything after this is on the coarse grid: wide blurs at full size would cost most of the time.
        mean, square = to_grid(lab, grid), to_grid(lab**2, grid)
        near = (mean - offset) / scale
        out = [near, *(blur(near, sigma / self.patch_size) for sigma in COLOR_SIGMAS)]
        for sigma in SPREAD_SIGMAS:
            center = blur(mean, sigma / self.patch_size)
            variance = (blur(square, sigma / self.patch_size) - center**2).clamp_min(0)
            out.append(torch.log(variance.sqrt() + ENERGY_FLOOR) - math.log(2.0))
        return torch.cat(out, dim=1)


def to_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bring (B, C, H, W) to `grid`: averages where it is coarser, bilinear where it is finer."""
    height, width = maps.shape[-2:]
    if height >= grid[0] and width >= grid[1]:
        return F.adaptive_avg_pool2d(maps, grid)
    return F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
