"""The one reader: orientation, bits, channels, limits and damaged files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from cups.errors import UserError
from cups.io.limits import PIXEL_VARIABLE
from cups.io.pixels import folder_bits, image_size, read_image
from cups.io.png import read_ids

BLOCKS = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint8)
PHOTO = np.kron(BLOCKS, np.ones((16, 16, 1), dtype=np.uint8))
GREY = np.repeat(PHOTO[..., :1], 3, axis=2)


@pytest.fixture(autouse=True)
def _forget_folders() -> None:
    folder_bits.cache_clear()


def _difference(path: Path, wanted: np.ndarray) -> int:
    found = read_image(path)
    assert found.dtype == np.uint8 and image_size(path) == found.shape[:2]
    assert found.shape == wanted.shape
    return int(np.abs(found.astype(int) - wanted).max())


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "heic"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_image__stands_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"photo.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    if suffix == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    tags = {"tiffinfo": {0x0112: orientation}} if suffix == "tif" else {"exif": exif.tobytes()}
    lossless = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(PHOTO).save(path, **tags, **lossless, quality=95)
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert _difference(path, wanted) <= 1
    assert wanted.shape[:2] == ((80, 48) if orientation >= 5 else (48, 80))


def test_read_image__orientation_six_is_turned_clockwise(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PHOTO).save(tmp_path / "a.png", exif=exif.tobytes())
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(PHOTO, -1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("grey", [False, True])
def test_read_image__sixteen_bit_files_are_scaled_by_what_they_use(
    tmp_path: Path, suffix: str, bits: int, grey: bool
) -> None:
    top = 2**bits - 1
    stored = (PHOTO.astype(np.uint32) * top // 255).astype(np.uint16)
    stored[0, 0] = top
    wanted = PHOTO.copy()
    wanted[0, 0] = 255
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), stored[..., 0] if grey else stored[..., ::-1])
    assert _difference(path, np.repeat(wanted[..., :1], 3, axis=2) if grey else wanted) <= 1


def test_read_image__a_dark_frame_is_scaled_as_its_neighbours(tmp_path: Path) -> None:
    for name, highest in (("a", 4095), ("b", 200), ("c", 4000)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((8, 8), highest, np.uint16))
    assert [int(read_image(tmp_path / f"{name}.png").max()) for name in "abc"] == [255, 12, 249]


@pytest.mark.parametrize(("highest", "wanted"), [(1000, 62), (60000, 233)])
def test_read_image__the_bits_that_a_png_tells_count_where_they_fit(
    tmp_path: Path, highest: int, wanted: int
) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((4, 4), highest, np.uint16))
    data = path.read_bytes()
    chunk = b"sBIT" + bytes([12])
    path.write_bytes(
        data[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    )
    assert int(read_image(path).max()) == wanted


def _alpha(photo: np.ndarray, mode: str) -> Image.Image:
    return Image.fromarray(np.dstack([photo, 255 - PHOTO[..., 0]]), mode)


@pytest.mark.parametrize(
    ("name", "image", "wanted", "tolerance"),
    [
        ("grey.png", Image.fromarray(PHOTO[..., 0]), GREY, 0),
        ("grey_alpha.png", _alpha(PHOTO[..., 0], "LA"), GREY, 0),
        ("alpha.png", _alpha(PHOTO, "RGBA"), PHOTO, 0),
        ("alpha.tif", _alpha(PHOTO, "RGBA"), PHOTO, 0),
        ("palette.png", Image.fromarray(PHOTO).quantize(16), PHOTO, 1),
        ("photo.bmp", Image.fromarray(PHOTO), PHOTO, 0),
        ("print.jpg", Image.fromarray(PHOTO).convert("CMYK"), PHOTO, 12),
        ("binary.png", Image.fromarray(GREY[..., 0] > 127), (GREY > 127) * 255, 0),
        ("float.tif", Image.fromarray(PHOTO[..., 0].astype(np.float32) / 255), GREY, 1),
    ],
)
def test_read_image__channels_of_all_kinds(
    tmp_path: Path, name: str, image: Image.Image, wanted: np.ndarray, tolerance: int
) -> None:
    image.save(tmp_path / name, quality=98)
    assert _difference(tmp_path / name, wanted) <= tolerance


def test_read_image__the_pixel_limit_holds_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "bomb.png"
    header = b"IHDR" + struct.pack(">IIBBBBB", 30000, 20000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    bomb.write_bytes(start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    for read in (read_image, image_size, read_ids):
        with pytest.raises(UserError, match=r"bomb\.png: 20000x30000 is 600 megapixels, more than 200"):
            read(bomb)
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    monkeypatch.setenv(PIXEL_VARIABLE, "0.003")
    with pytest.raises(UserError, match=r"0 megapixels, more than 0\.003; make it smaller, or set CUPS_MAX"):
        read_image(tmp_path / "a.png")
    monkeypatch.setenv(PIXEL_VARIABLE, "many")
    with pytest.raises(UserError, match="must be a positive number"):
        read_image(tmp_path / "a.png")


def _halve(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _lose_the_end(data: bytes) -> bytes:
    return data[:-200]


def _empty_half(data: bytes) -> bytes:
    return _halve(data) + bytes(len(data) - len(data) // 2)


@pytest.mark.parametrize(
    "name", ["a.jpg", "exif.jpg", "steps.jpg", "a.png", "a.webp", "a.bmp", "a.tif", "deep.tif"]
)
@pytest.mark.parametrize("damage", [_halve, _lose_the_end, _empty_half])
def test_read_image__files_cut_short_are_found(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    path, options = tmp_path / name, {"progressive": True} if name == "steps.jpg" else {}
    if name == "exif.jpg":  # a whole small JPEG inside the head of the large one
        Image.fromarray(noise[:8, :8]).save(path)
        options = {"exif": b"Exif\0\0" + path.read_bytes()}
    if name == "deep.tif":
        cv2.imwrite(str(path), noise.astype(np.uint16) * 257)
    else:
        Image.fromarray(noise).save(path, **options)
    data = path.read_bytes()
    read_image(path)
    path.write_bytes(damage(data))
    if damage is _empty_half and path.suffix in (".bmp", ".tif"):
        return  # black pixels may be meant: these formats keep no check
    with pytest.raises(UserError, match=rf"{path.name}: .*(truncated|damaged|cannot be decoded)"):
        read_image(path)


def test_read_image__what_lies_behind_a_whole_jpeg_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PHOTO).save(path)
    wanted, data = read_image(path), path.read_bytes()
    path.write_bytes(data + b"a trailer of the camera")
    assert np.array_equal(read_image(path), wanted)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_read_ids__a_palette_gives_indices_not_colours(tmp_path: Path, bits: int) -> None:
    ids = np.random.default_rng(0).integers(0, 2**bits, (9, 13), dtype=np.uint8)
    image = Image.fromarray(ids, "P")
    image.putpalette([value * 7 % 256 for value in range(768)])
    image.save(tmp_path / "a.png", bits=bits)
    assert np.array_equal(read_ids(tmp_path / "a.png"), ids)


def test_read_ids__one_bit_is_0_and_1(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 2, (9, 13), dtype=np.uint8)
    Image.fromarray(ids > 0).save(tmp_path / "a.png")
    assert np.array_equal(read_ids(tmp_path / "a.png"), ids)
