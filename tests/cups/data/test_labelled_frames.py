"""Frames with labels as training samples: ids of any size."""

from __future__ import annotations

import pytest
import torch

from cups.data import labelled_frames
from cups.data.labelled_frames import COUNTED, numbered


@pytest.mark.parametrize("ids", [[[0, 5, 5], [2, 0, 0]], [[7, 7]], [[0]], [[COUNTED - 1, 0]]])
def test_numbered__as_torch_unique(ids: list[list[int]]) -> None:
    instance = torch.tensor(ids)
    expected = torch.unique(instance, return_inverse=True)
    for found, right in zip(numbered(instance), expected, strict=True):
        assert torch.equal(found, right)


def test_numbered__large_ids_make_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of COCO files are colours: a frame of a few pixels took 300 MB and more."""
    monkeypatch.setattr(labelled_frames.torch, "bincount", None)
    for large in (COUNTED, 2**24 - 1, 33 * 2**16 + 7, 2**40):
        ids, inverse = numbered(torch.tensor([[0, large], [large, 3]]))
        assert ids.tolist() == [0, 3, large] and inverse.tolist() == [[0, 2], [2, 1]]
