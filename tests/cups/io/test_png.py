"""Lossless id maps, atomic writing, truncated files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cups.errors import UserError
from cups.io.files import atomic_write
from cups.io.png import encode_ids, read_ids, read_image, write_png

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=40)
@given(ids=hnp.arrays(np.uint16, shapes) | hnp.arrays(np.uint8, shapes))
def test_ids__come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("ids") / "a.png"
    write_png(path, ids)
    back = read_ids(path)
    assert back.dtype == ids.dtype and np.array_equal(back, ids)


def test_image__channels_keep_their_order(tmp_path: Path) -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[..., 0] = 200
    write_png(tmp_path / "red.png", image)
    assert np.array_equal(read_image(tmp_path / "red.png"), image)
    with pytest.raises(UserError, match=r"red\.png: has 3 channels"):
        read_ids(tmp_path / "red.png")


def test_write_png__refuses_floats(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="uint8 or uint16"):
        write_png(tmp_path / "a.png", np.zeros((2, 2)))


def test_read__truncated_missing_and_junk_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a\.png: truncated PNG"):
        read_ids(path)
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "b.jpg").write_bytes(b"junk")
    with pytest.raises(UserError, match="cannot be decoded"):
        read_image(tmp_path / "b.jpg")


def test_atomic_write__a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_encode_ids__another_reader_agrees(dtype: type) -> None:
    ids = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (7, 5)).astype(dtype)
    for view in (ids, ids[::-1, ::2], ids.T):
        assert (np.asarray(Image.open(io.BytesIO(encode_ids(view)))) == view).all()
