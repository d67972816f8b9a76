"""Arrays as the bytes of a .npy file that ends with a digest: damage is noticed, any reader opens it.

NumPy and others read as many bytes as the header tells and leave the rest. There our files have the CRC32 of
all bytes before it. Source of the format: NumPy Enhancement Proposal 1.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

MARK = b"\ncrc32 "
TRAILER = len(MARK) + 9
"""Bytes behind the array: the mark, 8 hexadecimal digits, a line break."""
HEADER = 2**16
"""Bytes in which a header ends; those of plain arrays have 128."""


@dataclass(frozen=True)
class Header:
    """What the head of a .npy file tells.

    Attributes:
        start, end: bytes of the file between which the array lies.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    by_columns: bool
    start: int
    end: int


def read_header(head: bytes, size: int) -> Header:
    """Read a header and compare it with the size of its file.

    Args:
        head: the file's first `HEADER` bytes, or all.
        size: of the file, in bytes.

    Raises:
        ValueError: no .npy file, one of objects, one that was cut or holds more than its array.
    """
    stream = io.BytesIO(head)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, by_columns, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # damaged headers raise nearly anything, RecursionError too
        raise ValueError(f"its header is damaged ({type(error).__name__})") from None
    if dtype.hasobject or not dtype.itemsize or any(side < 0 for side in shape):
        raise ValueError(f"values of type {dtype}, shape {shape}")
    end = stream.tell() + math.prod(shape) * dtype.itemsize
    if size - end not in (0, TRAILER):
        raise ValueError(f"{size} bytes, but an array {shape} of {dtype} makes {end}")
    return Header(shape, dtype, by_columns, stream.tell(), end)


def parse(data: bytearray) -> np.ndarray:
    """Return the array of a whole file; it keeps the bytes.

    Raises:
        ValueError: as `read_header`, or the digest is another.
    """
    header = read_header(bytes(data[:HEADER]), len(data))
    told = bytes(data[header.end :])
    if told and told != _trailer(zlib.crc32(memoryview(data)[: header.end])):
        raise ValueError("bits have changed since it was written")
    array: np.ndarray = np.ndarray(
        header.shape, header.dtype, data, header.start, order="F" if header.by_columns else "C"
    )
    return array if array.flags.aligned else array.copy()


def write(file: BinaryIO, array: np.ndarray) -> None:
    """Write an array and its digest."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    file.write(buffer.getbuffer())
    file.write(_trailer(zlib.crc32(buffer.getbuffer())))


def _trailer(digest: int) -> bytes:
    return MARK + b"%08x\n" % digest
