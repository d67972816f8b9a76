"""View-synthesis geometry on hand-made cameras and planes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from refs.spidepth.layers import backproject, project, rotation, ssim, transformation

INTRINSICS = torch.tensor([[[20.0, 0.0, 15.5], [0.0, 20.0, 7.5], [0.0, 0.0, 1.0]]])


def _grid(depth: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    points = backproject(depth, torch.linalg.inv(INTRINSICS))
    return project(points, INTRINSICS, pose, *depth.shape[-2:])


def test_project__no_motion_is_the_identity() -> None:
    depth = torch.rand(1, 1, 16, 32) * 10 + 1
    image = torch.rand(1, 3, 16, 32)
    warped = F.grid_sample(image, _grid(depth, torch.eye(4)[None]), align_corners=True)
    torch.testing.assert_close(warped, image, atol=1e-4, rtol=0)


def test_project__sideways_motion_shifts_by_the_disparity() -> None:
    # Focal length 20 px, shift 0.5 m, depth 5 m: two pixels.
    pose = transformation(torch.zeros(1, 3), torch.tensor([[0.5, 0.0, 0.0]]))
    grid = _grid(torch.full((1, 1, 16, 32), 5.0), pose)
    columns = (grid[0, 3, :, 0] + 1) / 2 * 31
    torch.testing.assert_close(columns, torch.arange(32.0) + 2, atol=1e-4, rtol=0)


def test_backproject__principal_point_lies_on_the_axis() -> None:
    depth = torch.full((1, 1, 16, 32), 7.0)
    inverse = torch.linalg.inv(torch.tensor([[[20.0, 0.0, 15.0], [0.0, 20.0, 7.0], [0.0, 0.0, 1.0]]]))
    points = backproject(depth, inverse).view(3, 16, 32)
    torch.testing.assert_close(points[:, 7, 15], torch.tensor([0.0, 0.0, 7.0]))


def test_rotation__quarter_turn_about_z() -> None:
    turn = rotation(torch.tensor([[0.0, 0.0, math.pi / 2]]))[0]
    torch.testing.assert_close(turn @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))


def test_transformation__inverse_undoes() -> None:
    torch.manual_seed(0)
    turn, shift = torch.randn(4, 3), torch.randn(4, 3)
    there, back = transformation(turn, shift), transformation(turn, shift, invert=True)
    torch.testing.assert_close(there @ back, torch.eye(4).expand(4, 4, 4), atol=1e-5, rtol=0)


def test_rotation__gradient_at_rest_is_finite() -> None:
    axis_angle = torch.zeros(1, 3, requires_grad=True)
    rotation(axis_angle)[0, 0, 1].backward()
    assert axis_angle.grad is not None and torch.isfinite(axis_angle.grad).all()
    assert axis_angle.grad[0, 2] == -1


def test_ssim__zero_for_equal_and_large_for_inverted() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 16)
    assert ssim(image, image).abs().max() < 1e-4
    assert ssim(image, 1 - image).mean() > 0.5
