"""Finding images on disk: below any folder, and in a split of the Cityscapes layout."""

from __future__ import annotations

from pathlib import Path

from cups.io.file_names import IMAGE_SUFFIX, IMAGE_SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """Return every image below a folder, sub-folders included, sorted by path; none if it is missing."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def list_city_images(split: Path) -> list[Path]:
    """Return the images of a split, `{split}/{city}/{stem}_leftImg8bit.png`, sorted by path."""
    return sorted(split.glob(f"*/*{IMAGE_SUFFIX}"))


def frame_stem(image: Path) -> str:
    """Return the name of a frame in the Cityscapes layout: its file name without `_leftImg8bit.png`."""
    return image.name.removesuffix(IMAGE_SUFFIX)
