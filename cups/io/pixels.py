"""The one reader of images: any file of `cups.io.images`, or frame of a video, as (H, W, 3) uint8 RGB.

Images come upright (EXIF), with grey as three equal channels, without transparency (the colours below it
count, as stored), and with 10, 12 or 16 bits brought to 8 by their true range.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cups.errors import UserError
from cups.io.codecs import decode_png
from cups.io.file_names import HEIC_SUFFIXES
from cups.io.limits import IMAGE_BYTES, check_file, check_pixels
from cups.io.video import is_frame, read_frame, video_size

AGAIN = "copy or generate the file again"
RANGES = (8, 10, 12, 16)
"""Bits that cameras deliver inside files of 16."""
NEIGHBOURS = 5
"""Files of a folder that tell, together, how many bits its 16-bit files use."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""What is decoded, whatever a file is called: Pillow knows others that run programs (EPS)."""
ORIENTATION, EXIF, MAX_SAMPLE = 0x0112, 0x8769, 281
EMPTY = bytes(64)
"""How a WebP file ends whose copying stopped after their length was set."""
_UPRIGHT = 1

# The limit here is ours, and settable; that of Pillow would come before it.
Image.MAX_IMAGE_PIXELS = None
# What is wrong with a file is told once, by the one line of its error.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")


@dataclass(frozen=True)
class ImageHeader:
    """What the head of an image file tells.

    Attributes:
        size: (H, W) upright.
        orientation: 1 to 8, as EXIF defines it: how stored pixels have to be turned.
        mode: of Pillow ("RGB", "P", "CMYK", ...).
        bits: of a channel, as stored.
        used: of these, how many the camera had, where the file tells; 0: it does not.
        kind: format ("PNG", "JPEG", ...).
    """

    size: tuple[int, int]
    orientation: int
    mode: str
    bits: int
    used: int
    kind: str

    @property
    def stored(self) -> tuple[int, int]:
        """(H, W) before it is turned upright."""
        return self.size[::-1] if self.orientation >= 5 else self.size


def read_image(path: Path) -> np.ndarray:
    """Read an image, or a frame of a video, upright: (H, W, 3) uint8 RGB.

    Raises:
        UserError: missing, truncated or undecodable file, or more pixels than `CUPS_MAX_MEGAPIXELS`.
    """
    if is_frame(path):
        return read_frame(path)
    header = read_header(path)
    if header.bits > 8:
        pixels = decode(path, header, cv2.IMREAD_UNCHANGED)
        return _turned(_three_channels(_eight_bits(pixels, path, header)), header)
    if header.kind == "PNG" and header.mode == "RGB":
        found = decode_png(checked_png(path), header.stored, "RGB")
        if found is not None:
            return _turned(found, header)
    if header.kind in ("JPEG", "PNG") and header.mode != "CMYK":
        pixels = decode(path, header, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        return _turned(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), header)
    return _turned(_by_pillow(path), header)


def image_size(path: Path) -> tuple[int, int]:
    """Return the (H, W) of an image or frame of a video, upright, from its header.

    Raises:
        UserError: missing file, no image, or more pixels than `CUPS_MAX_MEGAPIXELS`.
    """
    return video_size(path) if is_frame(path) else read_header(path).size


def read_header(path: Path) -> ImageHeader:
    """Read the head of an image file.

    Raises:
        UserError: missing file, no image, or more pixels than `CUPS_MAX_MEGAPIXELS`.
    """
    check_file(path, "check the folder and the split", IMAGE_BYTES)
    if path.suffix.lower() in HEIC_SUFFIXES:
        _register_heic(path)
    try:
        with _opened(path) as image:
            header = _header(path, image)
    except Exception:  # damaged files raise nearly anything
        raise UserError(f"{path}: cannot be decoded as an image; {AGAIN}") from None
    check_pixels(path, *header.size)
    return header


def _opened(path: Path) -> Image.Image:
    return Image.open(path, formats=(*FORMATS, *({"HEIF"} & Image.OPEN.keys())))


def read_stored(path: Path) -> np.ndarray:
    """Read the values of an image as they are stored: of a palette image its indices, (H, W) or (H, W, C).

    Raises:
        UserError: as `read_image`.
    """
    header = read_header(path)
    if header.kind == "PNG":
        checked_png(path)
    try:
        with _opened(path) as image:
            return np.array(image)
    except Exception:  # damaged files raise nearly anything
        raise UserError(f"{path}: truncated or damaged {header.kind}; {AGAIN}") from None


def exif_number(path: Path, tag: int) -> float | None:
    """Return a number of the photograph's EXIF data, None where they lack it or are damaged.

    Raises:
        UserError: as `read_header`.
    """
    read_header(path)
    try:
        with _opened(path) as image:
            return float(image.getexif().get_ifd(EXIF)[tag])
    except Exception:  # damaged data raise nearly anything
        return None


def decode(path: Path, header: ImageHeader, flags: int) -> np.ndarray:
    """Decode a whole file by OpenCV: (H, W) or (H, W, C), as stored, channels in its order (BGR).

    Raises:
        UserError: truncated, damaged or undecodable file.
    """
    data = np.fromfile(path, dtype=np.uint8)
    # OpenCV fills the missing rows of a truncated file silently: check its end first.
    if header.kind == "PNG":
        _check_png(path, data.data)
    elif header.kind == "JPEG" and not _is_whole_jpeg(path):
        raise UserError(f"{path}: truncated JPEG; {AGAIN}")
    elif header.kind == "TIFF" and not _is_whole_tiff(path, len(data)):
        raise UserError(f"{path}: truncated TIFF; {AGAIN}")
    try:
        array = cv2.imdecode(data, flags)
    except cv2.error as error:  # limits of its own, too little memory, damaged TIFF files
        raise UserError(f"{path}: cannot be decoded as an image ({_first_line(error)}); {AGAIN}") from None
    if array is None:
        raise UserError(f"{path}: cannot be decoded as an image; {AGAIN}")
    return np.asarray(array)


def checked_png(path: Path) -> bytes:
    """Return a whole PNG file.

    Raises:
        UserError: truncated or damaged file.
    """
    data = path.read_bytes()
    _check_png(path, data)
    return data


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _header(path: Path, image: Any) -> ImageHeader:
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    orientation, bits, used = _UPRIGHT, 8, 0
    size = (image.height, image.width)
    if kind == "PNG":
        bits, used = _png_bits(path)
        # Pillow would decode the whole file to look for EXIF data behind the pixels.
        if any(key in image.info for key in ("exif", "Raw profile type exif")):
            orientation = image.getexif().get(ORIENTATION, _UPRIGHT)
    elif kind == "TIFF":
        # Pillow and OpenCV turn these by themselves, and Pillow tells the size as turned.
        stored = image.tag_v2.get(258, (8,))
        bits = max(stored) if isinstance(stored, tuple) else int(stored)
        highest = image.tag_v2.get(MAX_SAMPLE)
        highest = max(highest) if isinstance(highest, tuple) else highest
        used = int(highest).bit_length() if highest and bits > 8 else 0
    else:
        orientation = image.getexif().get(ORIENTATION, _UPRIGHT)
    if orientation not in range(1, 9):
        orientation = _UPRIGHT
    if used > bits:
        used = 0
    return ImageHeader(size[::-1] if orientation >= 5 else size, orientation, image.mode, bits, used, kind)


def _png_bits(path: Path) -> tuple[int, int]:
    """Return the bits of a channel, and how many the chunk sBIT calls significant (0: no such chunk)."""
    with path.open("rb") as file:
        head = file.read(2**16)
    bits, place = head[24], 33
    while place + 8 <= len(head):
        length, name = struct.unpack(">I4s", head[place : place + 8])
        if name == b"sBIT":
            return bits, max(head[place + 8 : place + 8 + min(length, 3)], default=0)
        if name == b"IDAT":
            break
        place += 12 + length
    return bits, 0


def _check_png(path: Path, data: bytes | memoryview) -> None:
    """Raise a `UserError` for a PNG file that does not reach its last chunk, or of which a chunk has changed.

    Each chunk has a CRC32 of its name and content behind it: see ISO/IEC 15948, 5.3. OpenCV passes over some.
    """
    place, has_pixels = 8, False
    while place + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[place : place + 8])
        end = place + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(data[place + 4 : end]) != struct.unpack(">I", data[end : end + 4])[0]:
            raise UserError(f"{path}: damaged PNG; {AGAIN}")
        has_pixels |= name == b"IDAT"
        if name == b"IEND" and has_pixels:
            return
        place = end + 4
    raise UserError(f"{path}: truncated PNG; {AGAIN}")


def _is_whole_jpeg(path: Path) -> bool:
    data = path.read_bytes()
    return data.rfind(b"\xff\xd9", _scan_start(data)) >= 0


def _scan_start(data: bytes) -> int:
    """Return where the pixels of a JPEG file begin: segments before (EXIF) may hold another, small one."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], struct.unpack(">H", data[place + 2 : place + 4])[0]
        if marker == 0xDA:
            break
        place += 2 + length if marker != 0xFF else 1
    return min(place, len(data))


def _is_whole_tiff(path: Path, length: int) -> bool:
    try:
        with _opened(path) as image:
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            for starts, counts in ((273, 279), (324, 325)):
                ends = [a + b for a, b in zip(tags.get(starts, ()), tags.get(counts, ()), strict=False)]
                if max(ends, default=0) > length:
                    return False
    except Exception:  # damaged tags raise nearly anything
        return False
    return True


def _by_pillow(path: Path) -> np.ndarray:
    try:
        with _opened(path) as image:
            if image.format == "WEBP" and path.read_bytes().endswith(EMPTY):
                raise OSError("no pixels at the end")
            return _without_transparency(image)
    except Exception:  # damaged files raise nearly anything
        raise UserError(f"{path}: truncated or damaged {path.suffix.lstrip('.')}; {AGAIN}") from None


def _without_transparency(image: Image.Image) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB: the colours below transparency, as OpenCV gives them."""
    if image.mode == "PA" or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
    if image.mode == "LA":
        image = image.getchannel(0)
    pixels = np.asarray(image)[..., :3] if image.mode in ("RGBA", "RGBX") else image.convert("RGB")
    return np.ascontiguousarray(pixels)


def _three_channels(pixels: np.ndarray) -> np.ndarray:
    """Return RGB of what OpenCV decodes unchanged: (H, W), or (H, W, C) with 2 to 4 channels."""
    if pixels.ndim == 2 or pixels.shape[2] < 3:
        grey = pixels if pixels.ndim == 2 else pixels[..., 0]
        return np.repeat(grey[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels[..., 2::-1])


def _eight_bits(pixels: np.ndarray, path: Path, header: ImageHeader) -> np.ndarray:
    """Scale by the true range: what the file tells, else what its folder uses.

    Floats count as 0-1.

    Raises:
        UserError: floats beyond that, or integers of another kind.
    """
    colours = pixels[..., :3] if pixels.ndim == 3 else pixels
    if np.issubdtype(pixels.dtype, np.floating) and colours.min() >= 0 and colours.max() <= 1:
        return (pixels * 255 + 0.5).astype(np.uint8)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype != np.uint16:
        raise UserError(
            f"{path}: {pixels.dtype} pixels beyond 0-1 are no photograph; convert it to 8 or 16 bits"
        )
    highest = int(colours.max())
    bits = _bits_used(highest, header.used)
    if not header.used:
        bits = max(bits, folder_bits(path.parent, path.suffix))
    top = 2**bits - 1
    return ((pixels.astype(np.uint32) * 255 + top // 2) // top).clip(0, 255).astype(np.uint8)


def _bits_used(highest: int, told: int) -> int:
    """Return the bits that values up to `highest` use: as told, if they fit; else the fewest of `RANGES`.

    PNG files should fill 16 bits whatever the camera had, and many writers do not.
    """
    if told:
        return told if highest < 2**told else 16
    return next(bits for bits in RANGES if highest < 2**bits)


@lru_cache(maxsize=1024)
def folder_bits(folder: Path, suffix: str) -> int:
    """Return how many bits the 16-bit files of a folder use, by the brightest of a few of them.

    So a dark frame of a sequence is scaled as its neighbours are.
    """
    files = sorted(file for file in folder.glob(f"*{suffix}") if file.is_file() and file.name[0] != ".")
    bits = RANGES[0]
    for file in files[:: -(-len(files) // NEIGHBOURS) or 1]:
        try:
            header = read_header(file)
            pixels = decode(file, header, cv2.IMREAD_UNCHANGED) if header.bits > 8 else None
        except UserError:
            continue  # it says so when it is read
        if pixels is not None and pixels.dtype == np.uint16:
            bits = max(bits, _bits_used(int(pixels[..., :3].max() if pixels.ndim == 3 else pixels.max()), 0))
    return bits


def _turned(pixels: np.ndarray, header: ImageHeader) -> np.ndarray:
    """Turn pixels upright, by the orientation (1 to 8) of the EXIF standard (CIPA DC-008, 4.6.4)."""
    if header.orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if header.orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if header.orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


@cache
def _heic_opener() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _register_heic(path: Path) -> None:
    if not _heic_opener():
        raise UserError(f"{path}: a photo in HEIC; run pip install '.[heic]', or save it as JPEG")
