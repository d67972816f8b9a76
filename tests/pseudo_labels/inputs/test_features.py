"""Features on disk: bad files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import write_npy
from pseudo_labels.inputs.features import feature_folder, feature_statistics, read_features
from pseudo_labels.steps.frames import Folder, Frame


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


def test_feature_statistics__random_tokens_lie_one_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = Folder(tmp_path, "features", ".npy")
    frames = [Frame(str(number), Path(), Path()) for number in range(3)]
    mixing = rng.normal(size=(6, 6))
    tokens = 5 + rng.normal(size=(3, 20, 30, 6)) @ mixing
    for frame, values in zip(frames, tokens, strict=True):
        write_npy(folder.path(frame), values.astype(np.float32))
    statistics = feature_statistics(frames, lambda frame: read_features(folder, frame))
    flat = tokens.reshape(-1, 6)
    np.testing.assert_allclose(statistics.mean, flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(statistics.std, flat.std(0), rtol=1e-4)
    coordinates = (flat - flat.mean(0)) / flat.std(0) @ statistics.basis.numpy().T
    distance = np.square(coordinates[:900] - coordinates[900:]).sum(1).mean()
    assert distance == pytest.approx(1.0, rel=0.1)
