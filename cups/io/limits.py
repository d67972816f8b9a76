"""How much a reader takes, in one place, and what is checked before a file is opened.

Sizes are looked at before memory is asked for: a file may say anything of itself.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cups.errors import UserError

AGAIN = "copy it again, or delete it and run the step again that wrote it"
"""What to do about a damaged file, for errors."""
MEBIBYTE = 2**20
LIMIT_VARIABLE = "CUPS_MAX_FILE_MB"
"""Environment variable: raises the limits below, in MiB."""
TEXT_BYTES = 64 * MEBIBYTE
"""YAML, CSV, lists of classes: parsed, they take up to fifty times their size. Ours have kilobytes."""
JSON_BYTES = 512 * MEBIBYTE
"""The largest panoptic JSON of COCO has 112 MB, that of its instances 448."""
IMAGE_BYTES = 2048 * MEBIBYTE
"""A file of one image: 200 megapixels of 16 bits in four channels, not compressed, are 1526."""
ARRAY_BYTES = 4096 * MEBIBYTE
"""An array of one image, such as features: those of 4096 channels at 512 x 512 patches fill it."""
UNPACKED_BYTES = 1024 * MEBIBYTE
"""All arrays of an `.npz` together, unpacked: centroids, masks and tables of results have a few MB."""

PIXEL_VARIABLE = "CUPS_MAX_MEGAPIXELS"
"""Environment variable: the largest image that is read, in millions of pixels."""
MEGAPIXELS = 200.0
"""Twice a camera's largest photograph; its RGB takes 600 MB."""


def size_limit(usual: int) -> int:
    """Return a limit in bytes: the usual one, or what the environment raises it to.

    Raises:
        UserError: the environment variable holds no number of MiB.
    """
    text = os.environ.get(LIMIT_VARIABLE) or "0"
    if not text.isdecimal():
        raise UserError(f"{LIMIT_VARIABLE} {text}: must be a whole number of MiB; set it anew")
    return max(usual, int(text) * MEBIBYTE)


def check_file(path: Path, fix: str, limit: int | None = None) -> int:
    """Return the size of a file in bytes; refuse what is none, cannot be read, or is larger than a limit.

    Args:
        fix: what to do about a missing file, for the error.
        limit: in bytes, see `size_limit`.

    Raises:
        UserError: naming the file and the fix.
    """
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        what = f"a link to {os.readlink(path)}, which is missing" if path.is_symlink() else "no such file"
        raise UserError(f"{path}: {what}; {fix}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {fix}") from None
    if stat.S_ISDIR(state.st_mode):
        raise UserError(f"{path}: no such file, but a folder; {fix}")
    if not stat.S_ISREG(state.st_mode):
        raise UserError(f"{path}: a pipe or a device, no file; {fix}")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: may not be read; change its rights, or copy it")
    if limit is not None:
        check_bytes(path, state.st_size, limit)
    return state.st_size


def check_bytes(path: Path, size: int, limit: int) -> None:
    """Refuse a file that has, or would take, more bytes than a limit, see `size_limit`.

    Raises:
        UserError: naming the file, and how to raise the limit.
    """
    if size > (most := size_limit(limit)):
        raise UserError(
            f"{path}: {size / MEBIBYTE:.0f} MiB are more than the {most // MEBIBYTE} that are read; "
            f"check the file, or set {LIMIT_VARIABLE} to more"
        )


def pixel_limit() -> float:
    """Return the largest image that is read, in millions of pixels.

    Raises:
        UserError: the environment variable holds no positive number.
    """
    text = os.environ.get(PIXEL_VARIABLE) or str(MEGAPIXELS)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise UserError(f"{PIXEL_VARIABLE} {text}: must be a positive number of megapixels; set it anew")
    return limit


def check_pixels(path: Path, height: int, width: int) -> None:
    """Refuse an image, or the frames of a video, of more pixels than `pixel_limit`.

    Raises:
        UserError: naming the file, and how to raise the limit.
    """
    pixels = height * width / 1e6
    if pixels > (limit := pixel_limit()):
        raise UserError(
            f"{path}: {height}x{width} is {pixels:.0f} megapixels, more than {limit:g}; make it smaller, "
            f"or set {PIXEL_VARIABLE} to more"
        )
