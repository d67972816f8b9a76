"""Features of a frozen backbone: as they are computed, and the same whether stored or streamed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cups.errors import UserError
from pseudo_labels.networks.frozen_features import FrozenBackbone


class Columns(nn.Module):
    """Features that say which column of the network's input a patch is."""

    patch_size = 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        columns = torch.arange(images.shape[3] // 2, dtype=torch.float32)
        return columns.expand(len(images), 1, images.shape[2] // 2, -1)


def test_maps__flip_average_mirrors_back() -> None:
    backbone = FrozenBackbone(Columns(), flip=True)
    (features,) = backbone.maps(torch.zeros(1, 2, 8, 3, dtype=torch.uint8))
    assert features[0, :, 0].tolist() == [1.5, 1.5, 1.5, 1.5]  # (0 1 2 3 + 3 2 1 0) / 2


def test_maps__beyond_half_precision() -> None:
    class Huge(Columns):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 1e5 * super().forward(images)

    backbone = FrozenBackbone(Huge())
    with pytest.raises(UserError, match="`precision`"):
        backbone.maps(torch.zeros(1, 2, 8, 3, dtype=torch.uint8))
