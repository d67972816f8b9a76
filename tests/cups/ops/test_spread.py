"""Places spread evenly."""

from __future__ import annotations

import pytest

from cups.ops.spread import spread_places


@pytest.mark.parametrize(
    ("length", "most", "expected"),
    [(5, 0, []), (0, 3, []), (5, 1, [0]), (5, 2, [0, 4]), (5, 3, [0, 2, 4]), (3, 9, [0, 1, 2])],
)
def test_spread_places__both_ends_and_evenly_between(length: int, most: int, expected: list[int]) -> None:
    assert spread_places(length, most) == expected
