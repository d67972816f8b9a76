"""Files that say they hold more than they do: refused by name, before memory is asked for."""

from __future__ import annotations

import os
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cups.errors import UserError
from cups.io import files
from cups.io.checkpoint import load_tensors
from cups.io.files import read_json, read_npy, read_npz, read_text
from cups.io.pixels import image_size, read_image
from cups.io.png import read_ids
from cups.io.video import frame_paths
from cups.io.video_writer import write_video


def _png_header(side: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def _patched(suffix: str, *patches: tuple[int, bytes]) -> Callable[[Path], object]:
    """Return what writes a photograph, and then other bytes at places of its header."""

    def write(path: Path) -> None:
        Image.fromarray(np.zeros((12, 17, 3), np.uint8)).save(path, format=suffix)
        data = bytearray(path.read_bytes())
        for place, content in patches:
            data[place : place + len(content)] = content
        path.write_bytes(data)

    return write


def _jpeg(path: Path) -> None:
    _patched("JPEG")(path)
    data = path.read_bytes()
    place = data.index(b"\xff\xc0") + 5
    path.write_bytes(data[:place] + struct.pack(">HH", 60000, 60000) + data[place + 4 :])


def _tiff(path: Path) -> None:
    _patched("TIFF")(path)
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack("<I", data[4:8])
    for number in range(struct.unpack("<H", data[start : start + 2])[0]):
        entry = start + 2 + 12 * number
        if struct.unpack("<H", data[entry : entry + 2])[0] in (256, 257):
            data[entry : entry + 12] = data[entry : entry + 2] + struct.pack("<HII", 4, 1, 60000)
    path.write_bytes(data)


def _npy_header(path: Path) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (310000, 310000)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(16))


def _sparse_npy(path: Path) -> None:
    """A file of 720 GiB that takes no room on the disk."""
    _npy_header(path)
    os.truncate(path, path.stat().st_size - 16 + 8 * 310000**2)


def _lying_npz(path: Path) -> None:
    np.savez(path, centroids=np.zeros(4))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(data)


def _torch_zip(change: Callable[[str, bytes], bytes], packed: bool = False) -> Callable[[Path], object]:
    """Return what writes a torch file of which records are others; their digests are true."""

    def write(path: Path) -> None:
        torch.save({"bias": torch.arange(1000.0)}, path)
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
            for name, content in records.items():
                archive.writestr(name, change(name, content))

    return write


def _more_values(name: str, content: bytes) -> bytes:
    return content.replace(b"M\xe8\x03", b"J\x00\x00\x00\x40") if name.endswith("data.pkl") else content


def _tall_json(path: Path) -> None:
    """Write what is nested 100 000 deep."""
    path.write_bytes(b'{"a":' * 100_000)


def _sparse(path: Path) -> None:
    """Write 64 GiB of zeros that take no room on the disk."""
    path.touch()
    os.truncate(path, 2**36)


def _postscript(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


LIES = {
    "photo.png": (
        lambda path: path.write_bytes(_png_header(60000)),
        read_image,
        "60000x60000 is 3600 megapixels",
    ),
    "ids.png": (lambda path: path.write_bytes(_png_header(60000)), read_ids, "3600 megapixels"),
    "size.png": (lambda path: path.write_bytes(_png_header(60000)), image_size, "3600 megapixels"),
    "less.png": (
        lambda path: path.write_bytes(_png_header(14000)),
        read_image,
        "cannot be decoded|truncated",
    ),
    "photo.jpg": (_jpeg, read_image, "3600 megapixels"),
    "photo.tif": (_tiff, read_image, "3600 megapixels"),
    "photo.bmp": (_patched("BMP", (18, struct.pack("<ii", 60000, 60000))), read_image, "3600 megapixels"),
    "long.png": (_sparse, read_image, "65536 MiB are more than the 2048"),
    "codes.npy": (_npy_header, read_npy, "144 bytes, but an array .* makes 768800000128"),
    "sparse.npy": (_sparse_npy, read_npy, "are more than the 4096 that are read; .*CUPS_MAX_FILE_MB"),
    "centroids.npz": (_lying_npz, partial(read_npz, required=["centroids"]), "are more than the 1024"),
    "more.pth": (_torch_zip(_more_values), load_tensors, r"data/0 has 4000 bytes, not \d+ x 4"),
    "packed.pth": (_torch_zip(lambda _, content: content, packed=True), load_tensors, "is packed"),
    "tall.json": (_tall_json, partial(read_json, fix="x"), "not valid JSON"),
    "latin.json": (lambda path: path.write_bytes(b'"\xe9"'), partial(read_json, fix="x"), "not UTF-8 text"),
    "long.txt": (_sparse, partial(read_text, fix="x"), "65536 MiB"),
    "long.json": (_sparse, partial(read_json, fix="x"), "65536 MiB"),
    "page.png": (_postscript, read_image, "cannot be decoded as an image"),
}
"""Files that say they hold more than they do: how they are written and read, and what is said of them."""


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Half a gigabyte more than the process has by now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("name", LIES)
@pytest.mark.usefixtures("little_memory")
def test_readers__lies_are_refused_before_memory_is_asked_for(name: str, tmp_path: Path) -> None:
    write, read, said = LIES[name]
    write(tmp_path / name)
    with pytest.raises(UserError, match=said) as error:
        read(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(error.value)


def test_read_npz__bombs_are_refused_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, centroids=np.zeros(2**20))
    assert path.stat().st_size < 2**14
    assert len(read_npz(path, ["centroids"])["centroids"]) == 2**20
    monkeypatch.setattr(files, "UNPACKED_BYTES", 2**20)
    with pytest.raises(UserError, match=r"bomb\.npz: 8 MiB are more than the 1 that are read"):
        read_npz(path, ["centroids"])


def test_read_frame__videos_that_say_they_are_huge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, little_memory: None
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, [np.zeros((12, 17, 3), np.uint8)], 10)
    monkeypatch.setenv("CUPS_MAX_MEGAPIXELS", "0.0001")
    with pytest.raises(UserError, match=r"clip\.mp4: 12x18 is 0 megapixels, more than 0.0001"):
        frame_paths(path)
