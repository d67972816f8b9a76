"""A root with three images in two cities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.io.png import write_png


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    for index, city in enumerate(("bbb", "aaa", "aaa")):
        stem = f"{city}_{index:06}_000000"
        image = np.full((8, 16, 3), index, dtype=np.uint8)
        write_png(tmp_path / "leftImg8bit" / "train" / city / f"{stem}_leftImg8bit.png", image)
    return tmp_path
