"""Reading and writing arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import read_npy, write_npy


def test_read_npy__bad_files(tmp_path: Path) -> None:
    path = tmp_path / "codes.npy"
    with pytest.raises(UserError, match="no such file"):
        read_npy(path)
    write_npy(path, np.zeros((3, 4), dtype=np.float16))
    with pytest.raises(UserError, match=r"codes\.npy: array of shape \(3, 4\)"):
        read_npy(path, ndim=3)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="unreadable"):
        read_npy(path)
