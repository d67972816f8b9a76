"""Inputs of the refinement networks: crops, statistics, sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cups.io.files import write_npy
from cups.structures import Draw
from pseudo_labels.inputs.refine_inputs import (
    RefineFolders,
    RefineInput,
    RefinementFrames,
    feature_statistics,
    working_size,
)
from pseudo_labels.steps.frames import Folder, Frame


class Constant(RefineFolders):
    """Folders whose only frame is counted: every map holds the number of its own column."""

    def read(self, frame: Frame, num_classes: int) -> Any:
        columns = torch.arange(48).expand(24, 48)
        pixels = columns.float()[None]
        # A token covers 4 x 4 pixels and holds its first column.
        return RefineInput(pixels[:, ::4, ::4], pixels, pixels.expand(3, -1, -1), columns, (24, 48))


def test_refinement_frames__crops_stay_aligned_and_mirror_together() -> None:
    nowhere = Folder(Path(), "none", ".npy")
    data = RefinementFrames([Frame("a", Path(), Path())], Constant(nowhere, nowhere, nowhere, 24), 48, 13, 0)
    mirrored, starts = set(), set()
    for number in range(20):
        item = data[Draw(0, number)]
        assert item["features"].shape == (1, 3, 3) and item["labels"].shape == (12, 12)
        row = item["labels"][0]
        mirrored.add(bool(row[0] > row[1]))
        starts.add(int(row.min()))
        tokens = item["features"][0, 0].repeat_interleave(4)
        assert torch.equal(tokens, (row // 4 * 4).float())
        assert torch.equal(item["image"][0, 0], row.float())
        assert torch.equal(item["log_depth"][0, 0], row.float())
    assert mirrored == {False, True} and len(starts) > 3
    assert torch.equal(data[Draw(0, 5)]["image"], data[Draw(0, 5)]["image"])


def test_feature_statistics__random_tokens_lie_one_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = Folder(tmp_path, "features", ".npy")
    frames = [Frame(str(number), Path(), Path()) for number in range(3)]
    mixing = rng.normal(size=(6, 6))
    tokens = 5 + rng.normal(size=(3, 20, 30, 6)) @ mixing
    for frame, values in zip(frames, tokens, strict=True):
        write_npy(folder.path(frame), values.astype(np.float32))
    statistics = feature_statistics(frames, folder)
    flat = tokens.reshape(-1, 6)
    np.testing.assert_allclose(statistics.mean, flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(statistics.std, flat.std(0), rtol=1e-4)
    coordinates = (flat - flat.mean(0)) / flat.std(0) @ statistics.basis.numpy().T
    distance = np.square(coordinates[:900] - coordinates[900:]).sum(1).mean()
    assert distance == pytest.approx(1.0, rel=0.1)


def test_working_size() -> None:
    assert working_size((1024, 2048), 512) == (512, 1024)
    assert working_size((192, 384), 512) == (192, 384)
