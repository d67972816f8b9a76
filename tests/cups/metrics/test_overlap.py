"""The overlap table against pixel-by-pixel counting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.metrics import overlap_table
from cups.metrics.overlap import overlap_rows
from cups.ops.panoptic_map import PanopticMap


def literal(pred: np.ndarray, target: np.ndarray) -> Counter:
    """Return {(pred category, instance, target category, instance): pixels} by a loop over pixels."""
    height, width = pred.shape[:2]
    return Counter(
        (*map(int, pred[y, x]), *map(int, target[y, x])) for y in range(height) for x in range(width)
    )


def test_overlap_table__by_hand() -> None:
    # categories:  pred 1 1 2   target 1 2 2      the last row of the target is void
    #              pred 1 2 2   target v v v
    pred = np.array([[(1, 0), (1, 0), (2, 7)], [(1, 0), (2, 7), (2, 9)]])
    target = np.array([[(1, 0), (2, 3), (2, 3)], [(255, 0), (255, 0), (255, 0)]])
    table = overlap_table(pred, target)
    assert table.pred_category.tolist() == [1, 2, 2] and table.pred_instance.tolist() == [0, 7, 9]
    assert table.pred_area.tolist() == [3, 2, 1]
    assert table.target_category.tolist() == [1, 2, 255] and table.target_area.tolist() == [1, 2, 3]
    assert table.pairs.tolist() == [[0, 0, 1], [0, 1, 1], [0, 2, 1], [1, 1, 1], [1, 2, 1], [2, 2, 1]]


@settings(max_examples=60)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["int64", "int32", "uint16", "uint8"]),
    st.integers(0, 999),
)
def test_overlap_table__equals_literal_count(height: int, width: int, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pred, target = (rng.integers(0, 3, (height, width, 2)).astype(dtype) for _ in range(2))
    table = overlap_table(pred, target)
    rows = overlap_rows(table)
    assert {tuple(row[:4].tolist()): int(row[4]) for row in rows} == dict(literal(pred, target))
    assert table.pred_area.sum() == table.target_area.sum() == height * width
    assert rows.dtype == np.int32


def test_overlap_table__large_ids_and_strided_input() -> None:
    rng = np.random.default_rng(0)
    wide = rng.choice([0, 26001, 2**31 - 1], (6, 20, 2))
    pred, target = wide[:, ::2], wide[:, 1::2]
    assert not pred.flags.c_contiguous
    rows = overlap_rows(overlap_table(pred, target))
    assert {tuple(row[:4].tolist()): int(row[4]) for row in rows} == dict(literal(pred, target))


@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2, 2), int), "pred must be of shape"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2), int), "integer ids, not float64"),
        (np.zeros((2, 2, 2), int), np.zeros((2, 3, 2), int), "must be equal"),
        (np.zeros((0, 2, 2), int), np.zeros((0, 2, 2), int), "shape"),
        (np.full((1, 1, 2), -1), np.zeros((1, 1, 2), int), "pred ids must be in"),
        (np.zeros((1, 1, 2), int), np.full((1, 1, 2), 2**31), "target ids must be in"),
    ],
)
def test_overlap_table__bad_input(pred: np.ndarray, target: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlap_table(pred, target)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_overlap_table__maps_of_any_width_and_noise(dtype: type, noise: float) -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 5, (2, 8, 4)).repeat(6, axis=2).astype(dtype)
    ids[rng.random(ids.shape) < noise] = 3
    category, instance = rng.integers(0, 3, (2, 7)), rng.integers(0, 2, (2, 7))
    maps = [PanopticMap(*parts) for parts in zip(ids, category, instance, strict=True)]
    rows = overlap_rows(overlap_table(*maps))
    assert {tuple(row[:4].tolist()): int(row[4]) for row in rows} == dict(literal(*(m.pairs for m in maps)))


def test_overlap_table__more_segments_than_a_table_of_pairs_holds() -> None:
    category = np.arange(3000).reshape(1, -1)
    one = PanopticMap.from_maps(category, np.zeros_like(category))
    other = PanopticMap.from_maps(category[:, ::-1], np.ones_like(category))
    rows = overlap_rows(overlap_table(one, other))
    assert len(rows) == 3000 and (rows[:, 0] + rows[:, 2] == 2999).all() and (rows[:, 4] == 1).all()


@pytest.mark.parametrize("segments", [5, 3000], ids=["a table of all pairs", "too many pairs for one"])
@pytest.mark.parametrize("known", [(True, True), (True, False), (False, False)])
def test_overlap_table__runs_count_as_pixels_do(segments: int, known: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(1)
    maps = [rng.integers(0, segments, (60, 100)).repeat(16, axis=1) for _ in range(2)]
    # Shifted, so that runs of the one end inside those of the other.
    shifted = [np.stack((np.roll(m, 5 * i, axis=1), m * 0), axis=-1) for i, m in enumerate(maps)]
    made = [PanopticMap.from_pairs(pair) for pair in shifted]
    given_ = [m if kept else m.with_ids(m.ids) for m, kept in zip(made, known, strict=True)]
    assert [m.starts is not None for m in given_] == list(known)
    rows = overlap_rows(overlap_table(*given_))
    both = np.concatenate(shifted, axis=-1).reshape(-1, 4)
    found, count = np.unique(both, axis=0, return_counts=True)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, np.column_stack((found, count)).tolist()))
