"""Borders between labels."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cups.ops.borders import label_borders


def test_label_borders__sides_and_void_by_hand() -> None:
    #   0 0 1 1
    #   0 0 1 9     9 is void
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 9]])
    assert label_borders(labels).tolist() == [[False, True, True, True], [False, True, True, True]]
    assert label_borders(labels, void=9).tolist() == [[False, True, True, False]] * 2
    one = label_borders(labels, both_sides=False).tolist()
    assert one == [[False, False, True, False], [False, False, True, True]]


@given(seed=st.integers(0, 1000), void=st.sampled_from([None, 2]))
def test_label_borders__equals_a_look_at_every_neighbour(seed: int, void: int | None) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (5, 7)).astype(np.uint16)
    expected = np.zeros(labels.shape, dtype=bool)
    for row, column in np.ndindex(*labels.shape):
        for other in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= other[0] < 5 and 0 <= other[1] < 7:
                pair = {int(labels[row, column]), int(labels[other])}
                expected[row, column] |= len(pair) == 2 and void not in pair
    assert (label_borders(labels, void) == expected).all()


def test_label_borders__a_single_row_or_column() -> None:
    row = np.array([[1, 1, 2, 2]])
    assert label_borders(row).tolist() == [[False, True, True, False]]
    assert label_borders(row.T).T.tolist() == [[False, True, True, False]]
    assert label_borders(np.zeros((1, 1), dtype=int)).tolist() == [[False]]
