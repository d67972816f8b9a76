"""Runs: where maps change, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.ops.runs import changes, first_pixels, lengths, runs_of


@settings(max_examples=60)
@given(st.integers(0, 9999), st.integers(1, 400), st.sampled_from([0.0, 0.005, 0.3]))
def test_first_pixels__are_those_that_differ_from_the_one_before(
    seed: int, pixels: int, noise: float
) -> None:
    values = np.where(np.random.default_rng(seed).random(pixels) < noise, 7, 9)
    start = first_pixels(changes(values))
    assert start.tolist() == [i for i in range(pixels) if i == 0 or values[i] != values[i - 1]]
    assert np.array_equal(np.repeat(values[start], lengths(start, pixels)), values)


def test_changes__of_several_maps_are_those_of_any() -> None:
    first, second = np.array([1, 1, 1, 2]), np.array([5, 6, 6, 6], np.int32)
    assert first_pixels(changes(first, second)).tolist() == [0, 1, 3]


@pytest.mark.parametrize("noisy", [False, True])
def test_runs_of__say_as_much_as_the_pixels(noisy: bool) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 3, (6, 8)) if noisy else np.arange(6).repeat(8).reshape(6, 8) for _ in range(2)]
    values, length = runs_of(*maps)
    assert (length is None) == noisy
    for given_, found in zip(maps, values, strict=True):
        assert np.array_equal(found if length is None else found.repeat(length), given_.ravel())
