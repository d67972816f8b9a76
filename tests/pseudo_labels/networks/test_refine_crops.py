"""Training crops of the refinement networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cups.structures import Draw
from pseudo_labels.inputs.refine_inputs import RefineFolders, RefineView
from pseudo_labels.networks.frozen_features import StoredFeatures
from pseudo_labels.networks.refine_crops import RefinementFrames
from pseudo_labels.steps.frames import Folder, Frame

COLUMNS = torch.arange(48).expand(24, 48)


class Constant(RefineFolders):
    """Folders whose only frame is counted: every map holds the number of its own column."""

    def view(self, frame: Frame) -> RefineView:
        pixels = COLUMNS.float()[None]
        return RefineView(pixels, pixels.expand(3, -1, -1), (24, 48))

    def labels(self, *_: Any) -> tuple[Tensor, tuple[int, int]]:
        return COLUMNS, (24, 48)


class ConstantFeatures(StoredFeatures):
    """A token covers 4 x 4 pixels and holds its first column."""

    def sample(self, frame: Frame) -> Tensor:
        return COLUMNS.float()[::4, ::4, None]


def test_refinement_frames__crops_stay_aligned_and_mirror_together() -> None:
    nowhere = Folder(Path(), "none", ".npy")
    data = RefinementFrames(
        [Frame("a", Path(), Path())], Constant(nowhere, nowhere, 24), ConstantFeatures(nowhere), 48, 13, 0
    )
    mirrored, starts = set(), set()
    for number in range(20):
        item = data[Draw(0, number)]
        assert item["features"].shape == (3, 3, 1) and item["labels"].shape == (12, 12)
        row = item["labels"][0]
        mirrored.add(bool(row[0] > row[1]))
        starts.add(int(row.min()))
        tokens = item["features"][0, :, 0].repeat_interleave(4)
        assert torch.equal(tokens, (row // 4 * 4).float())
        assert torch.equal(item["image"][0, 0], row.float())
        assert torch.equal(item["log_depth"][0, 0], row.float())
    assert mirrored == {False, True} and len(starts) > 3
    assert torch.equal(data[Draw(0, 5)]["image"], data[Draw(0, 5)]["image"])
