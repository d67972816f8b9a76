"""Dense CRF around a network: the merge sees the refined semantics."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cups.errors import UserError
from cups.model.crf import DenseCrfRefinement


class _Network(nn.Module):
    """Scores whose border lies three pixels beside the edge of the image."""

    def __init__(self, probabilities: bool) -> None:
        super().__init__()
        self.probabilities = probabilities

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        right = torch.full((24, 32), 0.2)
        right[:, 19:] = 0.8
        both = torch.stack((1 - right, right))
        scores = both if self.probabilities else both.log() + 3
        return [{"sem_seg": scores, "instances": "found", "panoptic_seg": None} for _ in batch]


def _merge(instances: Any, probabilities: Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
    assert instances == "found" and torch.allclose(probabilities.sum(dim=0), torch.tensor(1.0), atol=1e-4)
    return probabilities.argmax(dim=0), []


@pytest.mark.parametrize("probabilities", [False, True])
def test_dense_crf_refinement__semantics_and_panoptic_map_follow_the_edge(probabilities: bool) -> None:
    pytest.importorskip("pydensecrf")
    image = torch.full((3, 24, 32), 0.1)
    image[..., 16:] = 0.9
    model = DenseCrfRefinement(_Network(probabilities), _merge, probabilities).eval()
    (output,) = model([{"image": image}])
    edge = (torch.arange(32) >= 16).expand(24, 32)
    assert torch.equal(output["panoptic_seg"][0].bool(), edge)
    assert torch.equal(output["sem_seg"].argmax(dim=0).bool(), edge)
    assert torch.isfinite(output["sem_seg"]).all() and torch.all(output["sem_seg"] <= 1e-4)


def test_dense_crf_refinement__missing_package_is_told_before_the_first_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UserError, match="pip install pydensecrf2"):
        DenseCrfRefinement(_Network(False), _merge)
