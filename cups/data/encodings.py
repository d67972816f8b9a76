"""From the pixels of a label file to ids of classes and numbers of objects, as a description says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.coco_panoptic import from_rgb
from cups.io.pixels import read_header
from cups.io.png import read_ids, read_image, read_stored
from cups.set_files import Channels, Encoding

PLACES = {"R": 0, "G": 1, "B": 2, "A": 3}


def read_pixels(path: Path) -> np.ndarray:
    """Read a label file as stored: (H, W) of grey or a palette, (H, W, 3) of RGB, (H, W, 4) of RGBA.

    Raises:
        UserError: missing, truncated or undecodable file.
    """
    mode = read_header(path).mode
    if mode == "RGBA":
        return read_stored(path)
    return read_image(path) if mode == "RGB" else read_ids(path)


def number_of(pixels: np.ndarray, channels: Channels, path: Path) -> np.ndarray:
    """Return the number that channels make of each pixel: (H, W) int32, or int64 where it may need that.

    It is 0 where there are no channels.

    Raises:
        UserError: the file has not these channels.
    """
    largest = sum(channels.weights.values()) * 2**16
    total = np.zeros(pixels.shape[:2], dtype=np.int32 if largest < 2**30 else np.int64)
    for name, weight in channels.weights.items():
        channel = _channel(pixels, name, path).astype(total.dtype)
        total += channel if weight == 1 else np.multiply(channel, weight, dtype=total.dtype)
    if channels.operation == "//":
        return total // channels.operand
    if channels.operation == "%":
        return total % channels.operand
    return total & channels.operand if channels.operation == "&" else total


def _channel(pixels: np.ndarray, name: str, path: Path) -> np.ndarray:
    has = "L" if pixels.ndim == 2 else "RGBA"[: pixels.shape[2]]
    if name not in has:
        raise UserError(
            f"{path}: has the channels {has}, and channel {name} is due; unpack the original label files "
            "again (pictures in colours hold no ids)"
        )
    return pixels if name == "L" else pixels[..., PLACES[name]]


def decode(files: tuple[Path, Path], encoding: Encoding) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Read the files of a frame: ids of classes, numbers of objects, and where a segment is no object.

    Args:
        files: of the classes and of the objects; one file may hold both.
        encoding: of them.

    Returns:
        (H, W) integers, (H, W) integers, and (H, W) bool or None.

    Raises:
        UserError: files that cannot be read, lack a channel, or differ in size.
    """
    labels, instances = files
    pixels = read_pixels(labels)
    others = pixels if instances == labels else read_pixels(instances)
    if others.shape[:2] != pixels.shape[:2]:
        raise UserError(f"{instances}: its size differs from {labels.name}; unpack the labels again")
    crowd = None if encoding.crowd is None else number_of(pixels, encoding.crowd, labels) > 0
    return (
        number_of(pixels, encoding.category, labels),
        number_of(others, encoding.instance, instances),
        crowd,
    )


def read_instance_ids(path: Path) -> np.ndarray:
    """Read Cityscapes' instanceIds: (H, W) integers, of 16-bit grey, or of RGB with R + 256 G + 65536 B.

    Raises:
        UserError: missing, truncated or undecodable file.
    """
    pixels = read_pixels(path)
    return pixels if pixels.ndim == 2 else from_rgb(np.ascontiguousarray(pixels[..., :3]))
