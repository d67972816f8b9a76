"""Images of three textures, on which tiny CAUSE heads can be trained for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cups.io.png import write_png

SIZES = {"codebook_steps": 8, "head_steps": 8, "probe_steps": 8, "codebook_size": 16, "reduced_dim": 12}
SIZES |= {"projection_dim": 16, "hidden_dim": 16, "batch_size": 4, "window": 32, "stride": 16}
SMALL = [part for name, value in SIZES.items() for part in (f"--{name}", str(value))]
"""Flags of `train_cause.py`."""
IMAGES = 4


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three textures of the same mean colour: smooth, upright and lying stripes. (48, 96)."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(96), np.arange(48))
    labels = np.where(x < 32, 0, np.where(x < 64, 1, 2))
    wave = np.where(labels == 1, np.sin(1.2 * x), np.where(labels == 2, np.sin(1.2 * y), 0))
    gray = 110 + 50 * wave + rng.normal(0, 3, wave.shape)
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), labels


def write_textures(root: Path) -> None:
    """Write the images and their gtFine: road, building, vegetation."""
    label_id = np.array([7, 11, 21], dtype=np.uint8)
    for index in range(IMAGES):
        image, labels = scene(index)
        stem = f"aaa_{index:06}_000000"
        write_png(root / "leftImg8bit" / "train" / "aaa" / f"{stem}_leftImg8bit.png", image)
        write_png(root / "gtFine" / "train" / "aaa" / f"{stem}_gtFine_labelIds.png", label_id[labels])


def flags(root: Path, *more: object) -> list[str]:
    """Return a command line for a root."""
    return ["--cityscapes_root", str(root), *map(str, more)]


def first(root: Path, folder: str, suffix: str = ".png") -> Path:
    """Return the file of the first image in a folder."""
    return root / folder / "train" / "aaa" / f"aaa_000000_000000{suffix}"
