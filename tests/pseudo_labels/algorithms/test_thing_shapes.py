"""Things told without depth."""

from __future__ import annotations

import numpy as np

from pseudo_labels.algorithms.thing_shapes import shape_scores, shape_sums

SKY, STREET, CAR, GONE = range(4)


def scene(left: int) -> np.ndarray:
    """(60, 100) sky above street, a car at the horizon."""
    semantic = np.full((60, 100), SKY)
    semantic[30:] = STREET
    semantic[26:40, left : left + 20] = CAR
    return semantic


def test_shape_scores__an_object_at_the_horizon_scores_high_what_runs_out_of_the_picture_zero() -> None:
    score = shape_scores(shape_sums(scene(40), 4))
    assert score[CAR] > 0.8
    assert score[SKY] == score[STREET] == score[GONE] == 0


def test_shape_scores__a_car_cut_by_the_border_counts_half_beside_a_whole_one() -> None:
    whole, cut = shape_sums(scene(40), 4), shape_sums(scene(0), 4)
    assert np.isclose(shape_scores(whole + cut)[CAR], shape_scores(whole)[CAR] / 2)
    assert np.isclose((whole + cut).pixels[CAR], 2 * 14 * 20 / 6000)


def test_shape_sums__void_and_specks_count_nowhere() -> None:
    semantic = scene(40)
    semantic[10, 50], semantic[55, 20] = 3, 255
    sums = shape_sums(np.kron(semantic, np.ones((3, 3), int)), 4)
    assert sums.pixels.sum() < 1
    assert sums.inside[3] > 0  # 9 of 54 000 pixels are no speck
    assert shape_sums(np.kron(scene(40), np.ones((20, 20), int)), 3).inside[CAR] > 0
