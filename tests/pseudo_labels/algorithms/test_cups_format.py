"""Statistics of a frame."""

from __future__ import annotations

import numpy as np
import pytest

from pseudo_labels.algorithms.cups_format import statistics_of


def test_statistics_of__void_is_left_out() -> None:
    semantic = np.array([[0, 1, 1, 255], [0, 2, 2, 255]], np.uint8)
    instance = np.array([[0, 1, 1, 0], [0, 2, 0, 0]], np.uint16)
    statistics = statistics_of(semantic, instance, 4)
    assert statistics.all_pixels.tolist() == [2, 2, 2, 0]
    assert statistics.inside.tolist() == [0, 2, 1, 0]
    assert statistics.instances.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_statistics_of__equals_a_loop_over_classes_and_instances(dtype: type) -> None:
    rng = np.random.default_rng(0)
    instance = rng.integers(0, 7, (20, 30)).astype(np.uint16)
    semantic = rng.integers(0, 6, 7)[instance].astype(dtype)
    semantic[instance == 0] = rng.choice([0, 3, 9, 255], (instance == 0).sum())
    statistics = statistics_of(semantic, instance, 5)
    for index in range(5):
        assert statistics.all_pixels[index] == (semantic == index).sum()
        assert statistics.inside[index] == ((semantic == index) & (instance > 0)).sum()
        assert statistics.instances[index] == len(np.unique(instance[(semantic == index) & (instance > 0)]))
