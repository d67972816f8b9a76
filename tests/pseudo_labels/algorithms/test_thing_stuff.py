"""Sums and choices by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cups.ops.ground import GroundPlane, StreetSearch
from pseudo_labels.algorithms.thing_stuff import choose_things, frame_sums, statistics_of, why_no_street


def test_frame_sums__add_up() -> None:
    rows = np.arange(64, dtype=np.float32)[:, None]
    depth = np.repeat(np.minimum(180 / np.maximum(rows - 28, 0.1), 60), 128, axis=1)
    semantic = np.where(rows < 31, 1, 0).astype(np.uint8).repeat(128, axis=1)
    sums = frame_sums(semantic, depth, 3)
    assert sums is not None
    twice = sums + sums
    assert twice.frames.tolist() == [2, 2, 0]
    assert twice.pixels.sum() == pytest.approx(2.0)
    one, two = statistics_of(sums, 1), statistics_of(twice, 2)
    assert np.allclose(one.region_area, two.region_area) and one.regions_per_image.tolist() == [1, 1, 0]
    assert one.vertical_extent.tolist() == [33 / 64, 31 / 64, 0]


def test_choose_things__absent_classes_are_never_things() -> None:
    score, occurs = np.array([0.2, 0.9, 0.7, 0.9]), np.array([True, True, True, False])
    assert choose_things(score, occurs, 0.5, None) == [1, 2]
    assert choose_things(score, occurs, 0.5, 3) == [1, 2, 0]


def test_why_no_street__counts_reasons() -> None:
    street, wall = StreetSearch(GroundPlane(86.0, 0.002)), StreetSearch(None, "a wall")
    assert why_no_street([street, street]) == "" and why_no_street([]) == ""
    expected = "no street in 3 of 4 frames: a wall (2); a leaning camera (1)"
    assert why_no_street([street, wall, StreetSearch(None, "a leaning camera"), wall]) == expected
