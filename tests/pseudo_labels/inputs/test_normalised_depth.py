"""Depth files of 0-1: read as plausible metres, inverse depth is refused, others stay as they are."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from pseudo_labels.inputs import normalised_depth
from pseudo_labels.inputs.labels import read_depth
from pseudo_labels.inputs.normalised_depth import FARTHEST, NEAREST


@pytest.fixture(autouse=True)
def fresh() -> None:
    normalised_depth.looks_inverse.cache_clear()
    normalised_depth._announce.cache_clear()


def street(rows: int = 64, columns: int = 128) -> np.ndarray:
    """Metres of a road under a far background: (rows, columns) float32, near at the bottom."""
    below = np.maximum(np.arange(rows) + 0.5 - 0.45 * rows, 0.02 * rows)[:, None]
    depth = np.minimum(80, 1.2 * 1.1 * columns / below)
    return np.repeat(depth, columns, axis=1).astype(np.float32)


def normalised(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_read_depth__normalised_depth_becomes_metres(
    dtype: type, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", normalised(street()).astype(dtype))
    with caplog.at_level(logging.WARNING):
        depth, _ = (read_depth(tmp_path / f"{name}.npy") for name in ("a", "b"))
    assert depth.dtype == np.float32 and depth.min() == NEAREST and depth.max() == FARTHEST
    assert depth[0, 0] > depth[-1, 0]
    np.testing.assert_allclose(normalised(depth), normalised(street()), atol=1e-3)
    (message,) = (record.message for record in caplog.records)  # once, for two files
    assert "0 near, 1 far" in message and "5-80 m" in message


def test_read_depth__inverse_depth_is_refused(tmp_path: Path) -> None:
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", normalised(1 / street()))
    with pytest.raises(UserError, match=r"inverse depth; store depth instead, e\.g\. 1 / "):
        read_depth(tmp_path / "a.npy")


def test_read_depth__one_odd_frame_does_not_outvote_its_folder(tmp_path: Path) -> None:
    """A lorry right ahead can be nearer above than the road below; the folder decides."""
    for name in "abcd":
        np.save(tmp_path / f"{name}.npy", normalised(street()))
    np.save(tmp_path / "lorry.npy", normalised(1 / street()))
    assert read_depth(tmp_path / "lorry.npy").min() == NEAREST


def test_read_depth__other_files_stay_as_they_are(tmp_path: Path) -> None:
    metres, relative = street(), street() / 100
    for name, values in (("metres", metres), ("relative", relative)):
        np.save(tmp_path / f"{name}.npy", values)
        assert np.array_equal(read_depth(tmp_path / f"{name}.npy"), values)


@pytest.mark.parametrize("values", [np.zeros((4, 8)), np.linspace(0, 2, 32).reshape(4, 8), -street()])
def test_read_depth__no_depth(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values.astype(np.float32))
    with pytest.raises(UserError, match="must be positive and finite"):
        read_depth(tmp_path / "a.npy")
