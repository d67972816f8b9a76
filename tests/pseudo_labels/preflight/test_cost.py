"""Arithmetic of networks, counted without their weights."""

from __future__ import annotations

import pytest
import torch

from cups.backbones import untrained_backbone
from cups.errors import UserError
from pseudo_labels.preflight import cost
from pseudo_labels.preflight.cost import (
    Backbone,
    depth_flops,
    measured_speed,
    network_seconds,
)
from pseudo_labels.settings.depth import DepthSettings


def test_backbone__has_the_shape_of_the_network() -> None:
    network = untrained_backbone("dinov2_vits14")
    shape = Backbone("dinov2_vits14")
    assert (shape.patch, shape.channels) == (network.patch_size, network.embed_dim) == (14, 384)


def test_backbone_flops__are_about_two_for_each_weight_and_token() -> None:
    """ViT-S/14 has 21.3 M weights in its blocks; attention adds what grows with the square of the tokens."""
    tokens = (112 // 14) ** 2 + 1
    assert Backbone("dinov2_vits14").flops(112, 112) == pytest.approx(2 * 21.3e6 * tokens, rel=0.1)
    assert Backbone("texton").flops(192, 384) == 0


def test_depth_flops__grow_with_the_fed_image() -> None:
    small = DepthSettings("test_resnet", 8, 8, 4, 4, (16, 12, 8, 8), 16, height=64, width=64)
    large = DepthSettings("test_resnet", 8, 8, 4, 4, (16, 12, 8, 8), 16, height=64, width=128)
    assert 1.9 < depth_flops(large) / depth_flops(small) < 2.1


def test_network_seconds__by_the_speed_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "PROBE_SIDE", 64)
    monkeypatch.setattr(cost, "PROBE_SECONDS", 0.01)
    cost._measured.cache_clear()
    speed = measured_speed("cpu", "fp32")
    assert speed > 1e6
    assert network_seconds(speed, "cpu", "fp32") == pytest.approx(1 / cost.EFFICIENCY)
    assert network_seconds(0, "cpu") == 0
    cost._measured.cache_clear()


def test_measured_speed__of_a_device_that_is_not_here() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="`device` cuda"):
        measured_speed("cuda")
