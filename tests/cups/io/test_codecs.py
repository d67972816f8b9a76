"""Faster codecs give what zlib and OpenCV give; without them, all works as before."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cups.errors import UserError
from cups.io import codecs
from cups.io.png import encode_ids, read_ids, read_image, write_png

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the faster codecs away."""
    monkeypatch.setattr(codecs, "_isal", lambda: None)
    monkeypatch.setattr(codecs, "_kornia", lambda: None)


def png(pixels: np.ndarray, **keywords: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **keywords)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_encode_ids__rows_are_the_same_with_and_without_isal(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("isal", reason="extra `fast`")
    ids = np.random.default_rng(0).integers(0, 300, (40, 60)).astype(kind)

    def rows(content: bytes) -> bytes:
        length = int.from_bytes(content[33:37], "big")
        return zlib.decompress(content[41 : 41 + length])

    fast = encode_ids(ids)
    monkeypatch.setattr(codecs, "_isal", lambda: None)
    assert rows(fast) == rows(encode_ids(ids))


def test_decode_png__colours_and_grey_bit_for_bit() -> None:
    pytest.importorskip("kornia_rs", reason="extra `fast`")
    found = codecs.decode_png(png(PIXELS), (5, 7), "RGB")
    assert found is not None and found.dtype == np.uint8 and np.array_equal(found, PIXELS)
    grey = codecs.decode_png(png(PIXELS[..., 0]), (5, 7), "L")
    assert grey is not None and np.array_equal(grey, PIXELS[..., 0])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decode_png__what_it_does_not_know_is_left_to_opencv(mode: str) -> None:
    content = png(PIXELS)
    assert codecs.decode_png(content[:-30], (5, 7), mode) is None
    assert codecs.decode_png(content, (7, 5), mode) is None
    assert codecs.decode_png(png(np.dstack((PIXELS, PIXELS[..., 0]))), (5, 7), mode) is None
    assert codecs.decode_png(content, (5, 7), "P") is None


@pytest.mark.parametrize("transparent", [None, (1, 2, 3)])
def test_read_image__one_result_with_and_without(
    tmp_path: Path, transparent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file lies on its side, and where a colour counts as transparent."""
    exif = Image.Exif()
    exif[0x0112] = 6
    keywords = {} if transparent is None else {"transparency": transparent}
    (tmp_path / "a.png").write_bytes(png(PIXELS, exif=exif, **keywords))
    fast = read_image(tmp_path / "a.png")
    monkeypatch.setattr(codecs, "_kornia", lambda: None)
    assert np.array_equal(fast, read_image(tmp_path / "a.png"))
    assert np.array_equal(fast, np.rot90(PIXELS, -1))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_files__go_round_without_the_extra(tmp_path: Path, kind: type, plain: None) -> None:
    ids = np.arange(35, dtype=kind).reshape(5, 7) * 7
    write_png(tmp_path / "a.png", ids)
    assert np.array_equal(read_ids(tmp_path / "a.png"), ids)


def test_read_ids__a_damaged_stream_is_named(tmp_path: Path) -> None:
    """The checksum of the chunk is right, what it packs is not."""
    content = bytearray(png(PIXELS[..., 0]))
    start = content.index(b"IDAT")
    length = int.from_bytes(content[start - 4 : start], "big")
    content[start + 6] ^= 0x7F
    end = start + 4 + length
    content[end : end + 4] = zlib.crc32(content[start:end]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png: cannot be decoded"):
        read_ids(tmp_path / "a.png")


class PanicException(BaseException):
    """As kornia-rs raises it when memory is short."""


class Decoder:
    """A kornia-rs that fails."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.asked = error, 0

    def decode_image_png_u8(self, *_: Any) -> np.ndarray:
        self.asked += 1
        raise self.error


def test_decode_png__a_header_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asked for the memory of the size in the header, and a panic of Rust ended the program."""
    decoder = Decoder(AssertionError("asked"))
    monkeypatch.setattr(codecs, "_kornia", lambda: decoder)
    content = png(PIXELS)
    assert codecs.decode_png(content, (14000, 14000), "RGB") is None and decoder.asked == 0
    assert codecs.decode_png(content, PIXELS.shape[:2], "RGB") is None and decoder.asked == 1


@pytest.mark.parametrize("error", [PanicException(), KeyboardInterrupt()])
def test_decode_png__a_panic_is_left_to_opencv_and_a_stop_is_a_stop(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs, "_kornia", lambda: Decoder(error))
    if isinstance(error, PanicException):
        assert codecs.decode_png(png(PIXELS), (5, 7), "RGB") is None
    else:
        with pytest.raises(KeyboardInterrupt):
            codecs.decode_png(png(PIXELS), (5, 7), "RGB")
