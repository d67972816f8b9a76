"""Losses of depth from video on a scene whose answer is known: a textured plane seen from a moving camera."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pseudo_labels.losses.view_synthesis import (
    edge_aware_smoothness,
    errors_to_target,
    photometric_error,
    reprojection_loss,
    warp,
)

HEIGHT, WIDTH, FOCAL = 40, 64, 50.0
MOTION = torch.tensor([0.05, -0.02, -0.4])
"""Backwards, so that the source sees all that the target shows."""


@dataclass
class Scene:
    """Target, one source, and what relates them; each with a batch axis."""

    target: Tensor
    source: Tensor
    depth: Tensor
    camera: Tensor
    pose: Tensor

    def warped(self, depth: Tensor, pose: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pose = self.pose if pose is None else pose
        return warp(self.source[:, None], depth, self.camera, torch.linalg.inv(self.camera), pose[:, None])

    def loss(self, depth: Tensor) -> Tensor:
        views, inside = self.warped(depth)
        present = torch.ones(1, 1, dtype=torch.bool)
        return reprojection_loss(views, inside, self.source[:, None], present, self.target)[0]


def texture(x: Tensor, y: Tensor) -> Tensor:
    """A smooth pattern without a period inside the view: (H, W) twice -> (3, H, W) in 0-1."""
    waves = [torch.sin(4 * x + 2 * y), torch.sin(6 * y - 3 * x), torch.sin(3 * x + 5 * y + x * y)]
    return torch.stack(waves) / 2 + 0.5


def look(position: Tensor) -> tuple[Tensor, Tensor]:
    """See the slanted plane z = 4 + 0.3 x from a position: image (1, 3, H, W), depth (1, 1, H, W)."""
    v, u = torch.meshgrid(torch.arange(float(HEIGHT)), torch.arange(float(WIDTH)), indexing="ij")
    ray_x, ray_y = (u - (WIDTH - 1) / 2) / FOCAL, (v - (HEIGHT - 1) / 2) / FOCAL
    depth = (4 + 0.3 * position[0] - position[2]) / (1 - 0.3 * ray_x)
    image = texture(position[0] + depth * ray_x, position[1] + depth * ray_y)
    return image[None], depth[None, None]


@pytest.fixture
def scene() -> Scene:
    target, depth = look(torch.zeros(3))
    source, _ = look(MOTION)
    camera = torch.tensor([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])[None]
    pose = torch.eye(4)
    pose[:3, 3] = -MOTION
    return Scene(target, source, depth, camera, pose[None])


def test_warp__true_depth_and_motion_give_the_target(scene: Scene) -> None:
    views, inside = scene.warped(scene.depth)
    error = (views[:, 0] - scene.target).abs().mean(dim=1)[inside[:, 0]]
    unmoved = (scene.source - scene.target).abs().mean()
    assert inside.float().mean() > 0.95 and error.mean() < 0.1 * unmoved


def test_warp__no_motion_is_the_identity(scene: Scene) -> None:
    views, inside = scene.warped(torch.rand_like(scene.depth) + 1, torch.eye(4)[None])
    assert torch.allclose(views[:, 0], scene.source, atol=1e-4)
    # The very border may fall out by rounding.
    assert inside[..., 1:-1, 1:-1].all()


def test_warp__marks_what_left_the_view(scene: Scene) -> None:
    far_right = torch.eye(4)[None].clone()
    far_right[0, 0, 3] = 100.0
    assert not scene.warped(scene.depth, far_right)[1].any()


@pytest.mark.parametrize("factor", (0.5, 0.8, 1.25, 2.0))
def test_reprojection_loss__true_depth_is_best(scene: Scene, factor: float) -> None:
    torch.manual_seed(0)
    assert scene.loss(scene.depth) < 0.7 * scene.loss(scene.depth * factor)


def test_reprojection_loss__descent_finds_the_depth(scene: Scene) -> None:
    torch.manual_seed(0)
    log_depth = torch.tensor(0.25, requires_grad=True)
    optimizer = torch.optim.Adam([log_depth], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        scene.loss(scene.depth * log_depth.exp()).backward()
        optimizer.step()
    assert abs(log_depth.item()) < 0.05


def test_reprojection_loss__masks_what_does_not_move(scene: Scene) -> None:
    """A source equal to the target: any motion is worse than none, and no gradient flows."""
    depth = scene.depth.clone().requires_grad_()
    views, inside = scene.warped(depth)
    still = scene.target[:, None]
    loss, moving = reprojection_loss(views, inside, still, torch.ones(1, 1, dtype=torch.bool), scene.target)
    assert moving < 0.01 and loss < 1e-3


def test_reprojection_loss__absent_source_does_not_count(scene: Scene) -> None:
    views, inside = scene.warped(scene.depth)
    noise = torch.rand_like(views)
    views, inside = torch.cat((views, noise), dim=1), torch.cat((inside, torch.ones_like(inside)), dim=1)
    sources = torch.cat((scene.source[:, None], scene.target[:, None]), dim=1)
    torch.manual_seed(0)
    loss, _ = reprojection_loss(views, inside, sources, torch.tensor([[True, False]]), scene.target)
    torch.manual_seed(0)
    assert torch.isclose(loss, scene.loss(scene.depth))


def test_reprojection_loss__gradients_are_finite(scene: Scene) -> None:
    torch.manual_seed(0)
    depth = (scene.depth * 1.2).requires_grad_()
    scene.loss(depth).backward()
    assert depth.grad is not None and torch.isfinite(depth.grad).all() and depth.grad.abs().sum() > 0


def test_photometric_error__range(scene: Scene) -> None:
    same = photometric_error(scene.target, scene.target)
    black, white = torch.zeros_like(scene.target), torch.ones_like(scene.target)
    assert same.abs().max() < 1e-5
    # SSIM of two flat images is nearly 0: 0.85 / 2 + 0.15.
    assert torch.allclose(photometric_error(black, white), torch.tensor(0.575), atol=1e-3)
    assert errors_to_target(scene.source[:, None], scene.target).shape == (1, 1, HEIGHT, WIDTH)


def test_edge_aware_smoothness__scale_and_edges() -> None:
    flat = torch.full((1, 1, 8, 8), 7.0)
    gray = torch.full((1, 3, 8, 8), 0.5)
    step = flat.clone()
    step[..., 4:] = 14.0
    edge = gray.clone()
    edge[..., 4:] = 1.0
    assert edge_aware_smoothness(flat, gray) == 0
    assert torch.isclose(edge_aware_smoothness(step, gray), edge_aware_smoothness(5 * step, gray))
    assert edge_aware_smoothness(step, edge) < 0.7 * edge_aware_smoothness(step, gray)
