"""Features on disk: bad files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import write_npy
from pseudo_labels.inputs.features import feature_folder, read_features
from pseudo_labels.steps.frames import Frame


def test_read_features__bad_files(tmp_path: Path) -> None:
    folder = feature_folder(tmp_path, "texton")
    frame = Frame("0", Path(), tmp_path / "in" / "0.png")
    with pytest.raises(UserError, match=r"0\.npy: no such file"):
        read_features(folder, frame)
    write_npy(folder.path(frame), np.zeros((4, 4), dtype=np.float16))
    with pytest.raises(UserError, match=r"array of shape \(4, 4\), expected 3"):
        read_features(folder, frame)
    for odd in (np.zeros((0, 4, 8), dtype=np.float16), np.zeros((4, 4, 8), dtype=np.int16)):
        write_npy(folder.path(frame), odd)
        with pytest.raises(UserError, match="extract the features again"):
            read_features(folder, frame)
