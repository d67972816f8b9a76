"""Losses, motion and weights of the training of depth from video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cups.errors import UserError
from pseudo_labels.networks.depth_training import TRANSLATION_UNIT, build_fit, halve
from pseudo_labels.settings.depth import TrainDepthSettings
from refs.spidepth.layers import backproject, project
from refs.timm_models import create_model

SMALL = TrainDepthSettings(
    device="cpu",
    precision="32",
    height=64,
    width=128,
    crop_bottom=0.0,
    backbone="test_resnet",
    dec_channels=(16, 16, 16, 16),
    model_dim=16,
    patch_size=8,
    query_nums=8,
    dim_out=8,
    feedforward=32,
    pose_backbone="test_resnet",
    pose_scale=0.5,
    batch_size=2,
)


def test_losses__learn() -> None:
    """Every network moves, and half-size comparison gives a loss of the same order."""
    values = {}
    for stride in (1, 2):
        fit = build_fit(replace(SMALL, steps=2, loss_strides=(stride,)))
        fit.log = lambda *_, **__: None  # type: ignore[method-assign]
        torch.manual_seed(0)
        batch = {
            "target": torch.rand(2, 3, 64, 128),
            "sources": torch.rand(2, 2, 3, 64, 128),
            "present": torch.tensor([[True, True], [False, True]]),
            "intrinsics": torch.tensor([[120.0, 0, 63.5], [0, 120.0, 31.5], [0, 0, 1]]).expand(2, 3, 3),
            "jitter": torch.ones(2, 3),
        }
        losses = fit.losses(batch)
        sum(losses.values()).backward()
        values[stride] = losses["reprojection"].item()
        for network in (fit.depth.encoder, fit.depth.depth_decoder, fit.pose):
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
            assert sum(gradient.abs().sum() for gradient in gradients) > 0
    assert 0.3 < values[2] / values[1] < 3


def test_poses__neighbours_before_and_after_are_inverse() -> None:
    """One motion per frame: what the next frame sees forwards, the previous one sees backwards."""
    fit = build_fit(SMALL)
    turn, shift = torch.randn(1, 3) * 0.1, torch.randn(1, 3)
    depth = torch.full((1, 1, 4, 4), 5.0)
    poses = fit.poses(turn.repeat(2, 1), shift.repeat(2, 1), depth)
    assert torch.allclose(poses[0, 0] @ poses[0, 1], torch.eye(4), atol=1e-4)
    # Translations count in mean depths.
    assert torch.allclose(poses[0, 1, :3, 3], TRANSLATION_UNIT * 5 * shift[0], atol=1e-4)


def test_halve__keeps_the_geometry() -> None:
    camera = torch.tensor([[50.0, 0, 15.5], [0, 52.0, 7.5], [0, 0, 1]])[None]
    target, sources = torch.rand(1, 3, 16, 32), torch.rand(1, 2, 3, 16, 32)
    small, smaller, scaled = halve(target, sources, camera)
    assert small.shape == (1, 3, 8, 16) and smaller.shape == (1, 2, 3, 8, 16)
    ray = backproject(torch.ones(1, 1, 16, 32), torch.linalg.inv(camera))
    # The centre of the corner pixel lies a quarter of a small pixel outside the small one's centre.
    grid = project(ray, scaled, torch.eye(4)[None], 16, 32)
    first = (grid[0, 0, 0] + 1) / 2 * torch.tensor([31.0, 15.0])
    assert torch.allclose(first, torch.tensor([-0.25, -0.25]), atol=1e-4)


def test_load_encoder__classifier_weights(tmp_path: Path) -> None:
    classifier = create_model("convnextv2_atto", pretrained=False)
    path = tmp_path / "weights.pth"
    torch.save(classifier.state_dict(), path)
    other = replace(SMALL, encoder_checkpoint=path)
    fit = build_fit(replace(other, backbone="convnextv2_atto"))
    weight = fit.depth.encoder.encoder.state_dict()["stages_0.blocks.0.conv_dw.weight"]
    assert torch.equal(weight, classifier.state_dict()["stages.0.blocks.0.conv_dw.weight"])
    with pytest.raises(UserError, match="tensors of the backbone are missing"):
        build_fit(other)
