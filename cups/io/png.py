"""Id maps and PNG files: lossless reading, atomic writing. Images are read by `cups.io.pixels`."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np

from cups.errors import UserError
from cups.io.codecs import compress, decode_png
from cups.io.files import atomic_write
from cups.io.pixels import ImageHeader, checked_png, decode, image_size, read_header, read_image, read_stored

__all__ = ["encode_ids", "image_size", "read_ids", "read_image", "read_stored", "write_png"]
_FILTER_UP = 2


def read_ids(path: Path) -> np.ndarray:
    """Read an id map: (H, W) uint8 or uint16, bit for bit as stored; of a palette PNG its indices.

    Raises:
        UserError: missing, truncated, undecodable or multi-channel file.
    """
    header = read_header(path)
    if header.mode == "P":
        return read_stored(path)
    if header.kind == "PNG" and header.mode == "L" and header.bits == 8:
        found = decode_png(checked_png(path), header.stored, "L")
        if found is not None:
            return found
    ids = decode(path, header, cv2.IMREAD_UNCHANGED)
    if ids.ndim != 2:
        raise UserError(f"{path}: has {ids.shape[2]} channels, an id map has one; generate the file again")
    return _as_stored(ids, header)


def _as_stored(ids: np.ndarray, header: ImageHeader) -> np.ndarray:
    """Undo what decoders do to grey PNG files of 1, 2 or 4 bits: they stretch them to 0-255."""
    return ids // (255 // (2**header.bits - 1)) if header.bits < 8 else ids


def write_png(path: Path, array: np.ndarray) -> None:
    """Write (H, W) uint8/uint16 ids or (H, W, 3) uint8 RGB as PNG, atomically.

    Raises:
        TypeError: for any other dtype (ids are integers, never floats).
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"PNG files hold uint8 or uint16, not {array.dtype}")
    if array.ndim == 2:
        encoded = encode_ids(array)
    else:
        pixels = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
        encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()
    atomic_write(path, lambda temporary: temporary.write_bytes(encoded))


def encode_ids(ids: np.ndarray) -> bytes:
    """Return (H, W) uint8 or uint16 ids as the bytes of a greyscale PNG.

    Regions of one id repeat the row above, so every row takes the filter "up", which leaves mostly zeros, and
    the fastest compression: a third of the time of general-purpose settings to write (less with isal),
    half to read, and no larger. Source: PNG specification (ISO/IEC 15948), sections 5 and 9 (filters).
    """
    height, width = ids.shape
    depth = 8 * ids.itemsize
    samples = np.ascontiguousarray(ids)
    if depth == 16:
        samples = samples.astype("=u2", copy=False)
        samples = samples.byteswap() if sys.byteorder == "little" else samples
    samples = samples.view(np.uint8)
    lines = np.empty((height, samples.shape[1] + 1), dtype=np.uint8)
    lines[:, 0] = _FILTER_UP
    lines[:1, 1:] = samples[:1]
    np.subtract(samples[1:], samples[:-1], out=lines[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    chunks = (
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", compress(lines.data)),
        _chunk(b"IEND", b""),
    )
    return b"".join((b"\x89PNG\r\n\x1a\n", *chunks))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
