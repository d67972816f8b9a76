"""Flow of pictures whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cups.ops.flow import carry, dense_flow, flow_both_ways, gray


def texture(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]


def test_dense_flow__a_shift() -> None:
    whole = texture(0, (120, 160))
    first, second = whole[10:106, 10:138], whole[13:109, 5:133]  # what was at x is now at x + 5, y - 3
    flow = dense_flow(first, second)[12:-12, 12:-12]
    assert abs(flow[..., 0] - 5).mean() < 0.3 and abs(flow[..., 1] + 3).mean() < 0.3


def test_flow_both_ways__is_not_sure_of_what_is_hidden() -> None:
    background, block = texture(1, (192, 256)), texture(2, (80, 60))
    first, second = background.copy(), background.copy()
    first[60:140, 60:120], second[60:140, 68:128] = block, block
    flow, sure = flow_both_ways(first, second)
    assert sure[10:50].mean() > 0.95 and sure[70:130, 70:110].mean() > 0.9
    assert np.abs(flow[70:130, 70:110, 0] - 8).mean() < 1
    assert sure[64:136, 120:128].mean() < 0.5  # background that the block covers in the second picture


def test_flow_both_ways__different_pictures_share_little() -> None:
    assert flow_both_ways(texture(3), texture(4))[1].mean() < 0.5


@pytest.mark.parametrize("size", [(31, 512), (512, 16), (16, 16)])
def test_dense_flow__strips_that_opencv_reads_beyond_stand_still(size: tuple[int, int]) -> None:
    """OpenCV's DIS ends the program on some of these."""
    noise = np.random.default_rng(0).integers(0, 256, (2, *size), dtype=np.uint8)
    assert not dense_flow(*noise).any()
    assert np.isfinite(
        dense_flow(*np.random.default_rng(0).integers(0, 256, (2, 32, 512), dtype=np.uint8))
    ).all()


def test_flow__tiny_pictures_stand_still() -> None:
    flow, sure = flow_both_ways(np.zeros((4, 9), np.uint8), np.ones((4, 9), np.uint8))
    assert flow.shape == (4, 9, 2) and not flow.any() and sure.all()


def test_carry__takes_the_nearest_label_and_the_border() -> None:
    labels = np.arange(12).reshape(3, 4)
    flow = np.zeros((3, 4, 2), np.float32)
    flow[..., 0] = 1.4
    np.testing.assert_array_equal(carry(labels, flow)[0], [1, 2, 3, 3])
    flow[..., 1] = -9
    np.testing.assert_array_equal(carry(labels, flow)[2], [1, 2, 3, 3])


def test_gray__weighs_the_colours() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(gray(pixels), [[76, 150, 29]])
