"""Tables of a frame on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from pseudo_labels.scoring.instance_sweep import FrameTables


def test_read__damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "frame.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"frame\.npz: unreadable arrays"):
        FrameTables.read(tmp_path / "frame.npz")
