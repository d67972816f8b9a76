"""Channels of label files to numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.data.encodings import decode, number_of, read_instance_ids, read_pixels
from cups.errors import UserError
from cups.set_files import Channels, Encoding
from tests.data_sets import rgb, save

HERE = Path("labels.png")


def test_number_of__sums_and_what_is_done_to_them() -> None:
    pixels = np.array([[[31, 6, 1, 44]]], dtype=np.uint8)
    assert number_of(pixels, Channels({"B": 256, "A": 1}), HERE).tolist() == [[300]], "(B << 8) + A"
    assert number_of(pixels, Channels({"G": 1}, "&", 3), HERE).tolist() == [[2]], "occluded, and a crowd"
    grey = np.array([[2005, 10000, 65535]], dtype=np.uint16)
    assert number_of(grey, Channels({"L": 1}, "//", 1000), HERE).tolist() == [[2, 10, 65]]
    assert number_of(grey, Channels({"L": 1}, "%", 1000), HERE).tolist() == [[5, 0, 535]]
    assert number_of(grey, Channels({}), HERE).tolist() == [[0, 0, 0]]
    with pytest.raises(UserError, match=r"labels\.png: has the channels L, and channel R is due"):
        number_of(grey, Channels({"R": 1}), HERE)


def test_read_pixels__bit_for_bit(tmp_path: Path) -> None:
    """Of RGBA the colours below full transparency count too: an annotation 256 has A = 0."""
    pixels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    pixels[0, 0, 3] = 0
    save(tmp_path / "a.png", pixels)
    assert (read_pixels(tmp_path / "a.png") == pixels).all()
    save(tmp_path / "b.png", pixels[..., :3])
    assert (read_pixels(tmp_path / "b.png") == pixels[..., :3]).all()
    save(tmp_path / "c.png", np.array([[65535, 300]], dtype=np.uint16))
    assert read_pixels(tmp_path / "c.png").tolist() == [[65535, 300]]


def test_decode__two_files(tmp_path: Path) -> None:
    files = tmp_path / "s.png", tmp_path / "i.png"
    save(files[0], np.array([[9, 20]], dtype=np.uint16))
    save(files[1], np.array([[700, 0]], dtype=np.uint16))
    grey = Channels({"L": 1})
    ids, numbers, crowd = decode(files, Encoding(grey, grey))
    assert (ids.tolist(), numbers.tolist(), crowd) == ([[9, 20]], [[700, 0]], None)
    save(files[1], np.zeros((2, 2), dtype=np.uint16))
    with pytest.raises(UserError, match=r"i\.png: its size differs from s\.png"):
        decode(files, Encoding(grey, grey))


def test_read_instance_ids__grey_or_rgb(tmp_path: Path) -> None:
    ids = np.array([[26001, 7]])
    save(tmp_path / "grey.png", ids.astype(np.uint16))
    save(tmp_path / "rgb.png", rgb(ids))
    assert (
        read_instance_ids(tmp_path / "grey.png").tolist() == read_instance_ids(tmp_path / "rgb.png").tolist()
    )
