"""Detections of many thing pseudo-classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cups.model.inputs import inference_inputs
from cups.model.tta import PanopticFPNWithTTA, Views

BOXES = torch.tensor([[4.0, 4, 36, 36], [6, 4, 38, 36], [60, 8, 90, 40]])
"""The first two are one object."""


@pytest.fixture
def heads(build_tiny: Callable[..., nn.Module]) -> Any:
    model: Any = build_tiny(confidence_threshold=0.5).eval()
    return model.roi_heads


def detect(heads: Any, probabilities: Tensor) -> Any:
    """Return the detections of one image of 64 x 128 whose three stages agree."""
    return heads._detect([BOXES], [(probabilities,)] * 3, [(64, 128)])[0]


def test_detect__an_object_scores_the_probability_of_all_things(heads: Any) -> None:
    things = heads.num_classes
    divided = torch.full((3, things + 1), 0.0)
    divided[:, :2] = torch.tensor([[0.35, 0.45], [0.4, 0.3], [0.1, 0.2]])
    divided[:, -1] = 1 - divided.sum(dim=1)
    assert len(detect(heads, divided)) == 0, "no class alone reaches 0.5"
    heads.things_together = True
    found = detect(heads, divided)
    assert found.pred_classes.tolist() == [1] and found.scores.tolist() == pytest.approx([0.8])
    assert torch.equal(found.pred_boxes.tensor, BOXES[:1])


def test_detect__things_together_suppress_other_classes(heads: Any) -> None:
    sure = torch.zeros((3, heads.num_classes + 1))
    sure[[0, 1, 2], [0, 1, 1]] = torch.tensor([0.8, 0.9, 0.7])
    sure[:, -1] = 1 - sure.sum(dim=1)
    assert sorted(detect(heads, sure).pred_classes.tolist()) == [0, 1, 1]
    heads.things_together = True
    found = detect(heads, sure)
    assert found.pred_classes.tolist() == [1, 1] and found.scores.tolist() == pytest.approx([0.9, 0.7])


def test_tta__pools_things_together(build_tiny: Callable[..., nn.Module]) -> None:
    """In one unmirrored view nothing is left to suppress: the network's own detections stay."""
    model: Any = build_tiny(confidence_threshold=0.0).eval()
    model.roi_heads.things_together = True
    image = torch.rand((3, 64, 128), generator=torch.Generator().manual_seed(0))
    (plain,) = model(inference_inputs([image]))
    (pooled,) = PanopticFPNWithTTA(model, Views(), score_threshold=0.0)(inference_inputs([image]))
    assert len(plain["instances"]) > 0
    torch.testing.assert_close(pooled["instances"].scores, plain["instances"].scores)
    assert torch.equal(pooled["instances"].pred_classes, plain["instances"].pred_classes)
