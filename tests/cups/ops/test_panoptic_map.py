"""Panoptic maps: what the table says is what the pixels said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.ops.panoptic_map import PanopticMap, as_panoptic_map, number_values
from cups.ops.resize import resize_ids


def random_pairs(seed: int, highest: int = 4) -> np.ndarray:
    """Some regions, some noise."""
    rng = np.random.default_rng(seed)
    regions = rng.integers(0, highest, (3, 4, 2)).repeat(rng.integers(1, 5), axis=0).repeat(3, axis=1)
    noise = rng.random(regions.shape[:2]) < rng.choice([0.0, 0.5])
    regions[noise] = rng.integers(0, highest, (noise.sum(), 2))
    return regions


@settings(max_examples=60)
@given(st.integers(0, 9999), st.sampled_from([4, 300, 70_000]), st.sampled_from(["int64", "int32", "uint32"]))
def test_from_pairs__every_pixel_reads_back(seed: int, highest: int, dtype: str) -> None:
    pairs = random_pairs(seed, highest).astype(dtype)
    panoptic = PanopticMap.from_pairs(pairs)
    assert np.array_equal(panoptic.pairs, pairs) and panoptic.pairs.dtype == np.int64
    assert np.array_equal(panoptic.categories, pairs[..., 0])
    assert np.array_equal(panoptic.instances, pairs[..., 1])
    table = list(zip(panoptic.category.tolist(), panoptic.instance.tolist(), strict=True))
    assert table == sorted(set(map(tuple, pairs.reshape(-1, 2).tolist()))), "each segment once, rising"
    assert panoptic.areas.sum() == panoptic.ids.size and panoptic.ids.dtype == np.uint8
    again = PanopticMap.from_maps(pairs[..., 0], pairs[..., 1])
    assert np.array_equal(again.ids, panoptic.ids) and np.array_equal(again.category, panoptic.category)


@settings(max_examples=40)
@given(st.integers(0, 9999), st.sampled_from([3, 2**20]))
def test_number_values__is_unique(seed: int, highest: int) -> None:
    values = random_pairs(seed, highest)[..., 0]
    ids, found = number_values(values)
    assert np.array_equal(found, np.unique(values)) and np.array_equal(found[ids], values)


@pytest.mark.parametrize(("segments", "dtype"), [(256, np.uint8), (257, np.uint16), (65_537, np.int32)])
def test_ids__are_no_wider_than_the_table_needs(segments: int, dtype: type) -> None:
    category = np.arange(segments)[None]
    panoptic = PanopticMap.from_maps(category, np.zeros_like(category))
    assert panoptic.ids.dtype == dtype and np.array_equal(panoptic.categories, category)
    padded, row = panoptic.padded_row(7)
    assert np.array_equal(padded.categories, category) and padded.category[row] == 7


@settings(max_examples=30)
@given(st.integers(0, 9999), st.integers(1, 15), st.integers(1, 15))
def test_resized__is_resize_ids(seed: int, height: int, width: int) -> None:
    pairs = random_pairs(seed)
    expected = resize_ids(torch.from_numpy(pairs).permute(2, 0, 1), (height, width)).permute(1, 2, 0)
    resized = PanopticMap.from_pairs(pairs).resized((height, width))
    assert np.array_equal(resized.pairs, expected) and resized.shape == (height, width)


def test_merged__rows_of_one_meaning_become_one() -> None:
    ids = np.array([[0, 1, 2, 3]], np.uint8)
    panoptic = PanopticMap(ids, np.array([5, 2, 5, 5]), np.array([1, 0, 1, 0]))
    merged = panoptic.merged()
    assert merged.category.tolist() == [2, 5, 5] and merged.instance.tolist() == [0, 0, 1]
    assert np.array_equal(merged.pairs, panoptic.pairs) and merged.merged() is merged


def test_with_void__changes_the_table_alone() -> None:
    panoptic = PanopticMap.from_pairs(np.array([[[255, 0], [3, 7]]]))
    wide = panoptic.with_void(255, 65535)
    assert wide.pairs.tolist() == [[[65535, 0], [3, 7]]] and wide.ids is panoptic.ids
    assert panoptic.with_void(255, 255) is panoptic


def test_as_panoptic_map__tensors_too() -> None:
    pairs = torch.tensor([[[1, 0], [2, 3]]])
    panoptic = as_panoptic_map(pairs)
    assert panoptic.pairs.tolist() == pairs.tolist() and as_panoptic_map(panoptic) is panoptic


@pytest.mark.parametrize(
    ("ids", "category", "instance", "message"),
    [
        (np.zeros((2, 2)), [0], [0], "integers"),
        (np.zeros(4, np.uint8), [0], [0], r"\(H, W\)"),
        (np.zeros((0, 4), np.uint8), [0], [0], r"\(H, W\)"),
        (np.ones((2, 2), np.uint8), [0], [0], "ids 1..1 do not fit a table of 1 rows"),
        (np.full((2, 2), -1), [0], [0], "do not fit"),
        (np.zeros((2, 2), np.uint8), [0, 1], [0], "columns"),
        (np.zeros((2, 2), np.uint8), [-1], [0], "0..2"),
        (np.zeros((2, 2), np.uint8), [0], [2**31], "0..2"),
    ],
)
def test_panoptic_map__parts_must_fit(
    ids: np.ndarray, category: list[int], instance: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PanopticMap(ids, np.array(category), np.array(instance))


@settings(max_examples=40)
@given(st.integers(0, 9999))
def test_starts__cut_the_map_where_it_changes(seed: int) -> None:
    panoptic = PanopticMap.from_pairs(random_pairs(seed))
    other = np.zeros((2, 3), np.uint8)
    for made in (panoptic, panoptic.with_void(1, 9), panoptic.padded_row(3)[0]):
        assert made.starts is not None
        flat = made.ids.ravel()
        assert made.starts.tolist() == [i for i in range(flat.size) if i == 0 or flat[i] != flat[i - 1]]
    assert panoptic.with_ids(other).starts is None and panoptic.resized((2, 3)).starts is None
