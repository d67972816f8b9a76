"""Depth edges read as the log step, whatever the unit, the distance and the resolution."""

from __future__ import annotations

import numpy as np
import pytest

from cups.ops import depth_edges as module
from cups.ops.depth_edges import depth_edges


def step(height: int, near: float, far: float) -> np.ndarray:
    depth = np.full((height, 2 * height), near, dtype=np.float32)
    depth[:, height:] = far
    return depth


@pytest.mark.parametrize("height", [64, 192, 512, 1024])
@pytest.mark.parametrize("ratio", [1.1, 1.5, 2.0])
def test_depth_edges__reads_the_log_step_at_any_resolution(height: int, ratio: float) -> None:
    peak = depth_edges(step(height, 7.0, 7.0 * ratio)).max()
    assert peak == pytest.approx(np.log(ratio), rel=0.03 if height <= 512 else 0.25)


def test_depth_edges__axis_does_not_matter() -> None:
    depth = step(64, 5.0, 9.0)
    assert depth_edges(depth.T.copy()).max() == pytest.approx(depth_edges(depth).max(), rel=1e-4)


def test_depth_edges__unit_does_not_matter() -> None:
    depth = np.random.default_rng(0).uniform(2, 60, (48, 96)).astype(np.float32)
    assert np.allclose(depth_edges(depth), depth_edges(1000 * depth), atol=1e-4)


def test_depth_edges__flat_depth_has_none() -> None:
    assert depth_edges(np.full((40, 80), 12.5, np.float16)).max() < 1e-5


def test_depth_edges__a_slanted_street_stays_below_every_useful_threshold() -> None:
    # A street that recedes from 4 m to 40 m over the lower half of a 512-row image.
    rows = np.linspace(1, 0.1, 256, dtype=np.float32)
    depth = np.repeat((4 / rows)[:, None], 1024, axis=1)
    assert depth_edges(depth).max() < 0.1


def test_depth_edges__wider_smoothing_ignores_a_thin_wire() -> None:
    depth = np.full((512, 1024), 20.0, np.float32)
    depth[:, 500] = 10.0
    assert depth_edges(depth, sigma=4.0).max() < 0.5 * depth_edges(depth, sigma=0.5).max()


@pytest.mark.parametrize("height", [64, 1024])
def test_depth_edges__inside_a_mask_the_background_makes_no_edge(height: int) -> None:
    # A thin person 8 m away before a wall at 30 m: without the mask its rim, all of it, is an edge.
    depth = np.full((height, 2 * height), 30.0, np.float32)
    person = np.zeros(depth.shape, bool)
    person[height // 4 : -height // 4, height : height + height // 16] = True
    depth[person] = 8.0
    assert depth_edges(depth)[person].max() > 1.0
    assert depth_edges(depth, inside=person)[person].max() < 0.01


def test_depth_edges__inside_a_mask_steps_between_objects_remain() -> None:
    depth, inside = step(64, 8.0, 12.0), np.zeros((64, 128), bool)
    inside[20:40, 30:100] = True
    assert depth_edges(depth, inside=inside)[20:40, 64].min() == pytest.approx(np.log(1.5), rel=0.03)


def test_depth_edges__empty_mask_has_none() -> None:
    assert not depth_edges(step(16, 5.0, 9.0), inside=np.zeros((16, 32), bool)).any()


@pytest.mark.parametrize("height", [48, 600])
@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0])
def test_depth_edges__looking_near_the_mask_is_enough(
    height: int, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depth is extended in a box around the mask; over the whole image, nothing changes inside."""
    rng = np.random.default_rng(height)
    depth = rng.uniform(3, 60, (height, height + 30)).astype(np.float32)
    inside = np.zeros(depth.shape, bool)
    rows = slice(height // 3, height // 2)
    inside[rows, height // 4 : height // 2] = rng.random((height // 2 - height // 3, 1)) < 0.7
    near = depth_edges(depth, sigma, inside)[inside]
    extend = module._extend
    monkeypatch.setattr(module, "_extend", lambda values, mask, _: extend(values, mask, height))
    np.testing.assert_allclose(near, depth_edges(depth, sigma, inside)[inside], atol=1e-6)
