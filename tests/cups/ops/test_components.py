"""Connected components, give-back and majority classes on maps small enough to check by eye."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cups.ops import components
from cups.ops.components import (
    cut_components,
    give_back,
    keep_whole_regions,
    majority_classes,
    relabel_by_area,
    split_components,
    unify_semantics,
)
from studies.benchmarks.stage1 import every_offset

REGIONS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 3))


def draw(*rows: str) -> np.ndarray:
    """Turn "0112" strings into a uint8 map."""
    return np.array([[int(digit) for digit in row] for row in rows], dtype=np.uint8)


def test_relabel_by_area__falling_area_and_filter() -> None:
    labels = draw("1223", "0223", "0000")
    expected = draw("0112", "0112", "0000")
    assert (relabel_by_area(labels, min_area=2) == expected).all()
    assert relabel_by_area(labels).dtype == np.uint16


def test_relabel_by_area__keeps_the_largest_beyond_16_bits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(components, "MAX_INSTANCES", 2)
    assert (relabel_by_area(draw("1233", "0233", "0200")) == draw("0211", "0211", "0200")).all()
    assert "kept the 2 largest" in caplog.text


def test_split_components__two_overlapping_cars() -> None:
    # Two cars (1) overlap in the image; the depth step between them is cut (x). The cut column is given back
    # to the nearer side; the rider (2) in front of the right car keeps its own pixels.
    regions = draw("111111", "111122", "111122")
    cut = draw("001000", "001000", "001000").astype(bool)
    assert (split_components(regions) == draw("111111", "111122", "111122")).all()
    halves = split_components(regions, cut, min_area=2, dilation=1)
    assert (halves == draw("111222", "111233", "111233")).all()


def test_split_components__diagonal_neighbours_are_one() -> None:
    assert split_components(draw("10", "01")).max() == 1


def test_split_components__classes_never_merge() -> None:
    assert (split_components(draw("1122")) == draw("1122")).all()


def test_split_components__empty_map() -> None:
    empty = np.zeros((3, 4), np.uint8)
    assert not split_components(empty, empty.astype(bool), dilation=2).any()


def test_split_components__without_cut_small_components_stay_dropped() -> None:
    assert (split_components(draw("11101"), min_area=2, dilation=3) == draw("11100")).all()


def test_give_back__nearest_of_its_own_class() -> None:
    # The open pixel in the middle touches class 2 on its left, but belongs to class 1 on its right.
    labels, regions = draw("50007"), draw("20111")
    assert (give_back(labels, regions, 2) == draw("50777")).all()
    assert (give_back(labels, regions, 1) == draw("50077")).all()


@pytest.mark.parametrize("classes", [1, 3, 9])
@pytest.mark.parametrize("radius", [2, 7, 12])
def test_give_back__ties_as_a_search_at_every_offset(classes: int, radius: int) -> None:
    """Wide discs are searched by measured distances where there are few classes; nothing else differs."""
    rng = np.random.default_rng(radius)
    regions = np.kron(rng.integers(0, classes + 1, (5, 6)), np.ones((7, 8), int)).astype(np.uint8)
    for share in (0.002, 0.03):
        labels = (rng.integers(1, 99, regions.shape) * (rng.random(regions.shape) < share)).astype(np.uint16)
        found = give_back(labels, regions, radius)
        assert found.dtype == labels.dtype and (found == every_offset(labels, regions, radius)).all()


def reference_give_back(labels: np.ndarray, regions: np.ndarray, radius: int) -> np.ndarray:
    """Distance to the nearest labelled pixel of the same class, one Euclidean transform per class."""
    distance = np.full(labels.shape, np.inf)
    for value in np.unique(regions[regions > 0]):
        sources = (labels > 0) & (regions == value)
        if sources.any():
            inside = regions == value
            distance[inside] = ndimage.distance_transform_edt(~sources)[inside]
    return distance <= radius


@settings(max_examples=60)
@given(REGIONS, st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_give_back__reaches_what_a_distance_transform_reaches(
    regions: np.ndarray, seed: int, radius: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where((regions > 0) & (rng.random(regions.shape) < 0.3), regions.astype(np.uint16) + 10, 0)
    given_back = give_back(labels, regions, radius)
    assert ((given_back > 0) == reference_give_back(labels, regions, radius)).all()
    assert (given_back[given_back > 0] == regions[given_back > 0] + 10).all()


@settings(max_examples=60)
@given(REGIONS, st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 3))
def test_split_components__invariants(regions: np.ndarray, seed: int, min_area: int, dilation: int) -> None:
    cut = np.random.default_rng(seed).random(regions.shape) < 0.3
    labels = split_components(regions, cut, min_area=min_area, dilation=dilation)
    areas = np.bincount(labels.ravel())[1:]
    assert (areas >= min_area).all(), "ids are contiguous and no component is too small"
    assert (np.diff(areas) <= 0).all(), "ids fall in area"
    for index in range(1, len(areas) + 1):
        assert len(np.unique(regions[labels == index])) == 1, "an instance lies in one class"
    assert not labels[regions == 0].any()


@settings(max_examples=60)
@given(REGIONS, st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_split_components__equals_labelling_one_class_at_a_time(
    regions: np.ndarray, seed: int, min_area: int
) -> None:
    cut = np.random.default_rng(seed).random(regions.shape) < 0.3
    expected = np.zeros(regions.shape, dtype=np.int64)
    for value in np.unique(regions[regions > 0]):
        own, count = ndimage.label((regions == value) & ~cut, structure=np.ones((3, 3)))
        for index in range(1, count + 1):
            if (own == index).sum() >= min_area:
                expected[own == index] = expected.max() + 1
    labels = split_components(regions, cut, min_area=min_area)
    assert (
        len(np.unique(labels * 1000 + expected))
        == len(np.unique(labels))
        == expected.max() + (1 if (expected == 0).any() else 0)
    )


def test_majority_classes__void_and_ties() -> None:
    semantic, instance = draw("0112", "9922"), draw("1112", "3332")
    assert majority_classes(semantic, instance, 3, 9).tolist() == [9, 1, 2, 2]


def test_majority_classes__things_outvote_stuff() -> None:
    # Instance 1 is mostly stuff 0 (a blurred border), instance 2 is stuff alone.
    semantic, instance = draw("0001", "2200"), draw("1111", "1122")
    assert majority_classes(semantic, instance, 3, 9).tolist() == [9, 0, 0]
    assert majority_classes(semantic, instance, 3, 9, things=(1, 2)).tolist() == [9, 2, 0]


def test_unify_semantics__uniform_inside_and_void_instances_dropped() -> None:
    semantic = np.array([[0, 1, 1, 255], [255, 255, 2, 255]], dtype=np.uint8)
    instance = np.array([[4, 4, 4, 7], [7, 7, 0, 0]], dtype=np.uint16)
    unified, kept = unify_semantics(semantic, instance, 3, 255)
    assert unified.tolist() == [[1, 1, 1, 255], [255, 255, 2, 255]]
    assert kept.tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]
    assert unified.dtype == np.uint8


@settings(max_examples=40)
@given(REGIONS, st.integers(0, 2**32 - 1))
def test_unify_semantics__every_instance_one_class(semantic: np.ndarray, seed: int) -> None:
    instance = np.random.default_rng(seed).integers(0, 4, semantic.shape).astype(np.uint16)
    unified, kept = unify_semantics(semantic, instance, 3, 255)
    for index in range(1, int(kept.max()) + 1):
        assert len(np.unique(unified[kept == index])) == 1
    assert (unified[instance == 0] == semantic[instance == 0]).all()


@settings(max_examples=60)
@given(REGIONS, st.integers(0, 2**32 - 1), st.sampled_from([None, (1, 2)]))
def test_unify_semantics__equals_a_loop_over_instances(
    semantic: np.ndarray, seed: int, things: tuple[int, ...] | None
) -> None:
    """Class 3 plays void; areas decide the new ids, equal areas keep their order."""
    instance = np.random.default_rng(seed).integers(0, 6, semantic.shape).astype(np.uint16)
    expected, masks = semantic.copy(), []
    for index in range(1, 6):
        mask = instance == index
        votes = [np.count_nonzero(semantic[mask] == value) for value in range(3)]
        if things is not None and any(votes[value] for value in things):
            votes = [vote if value in things else 0 for value, vote in enumerate(votes)]
        if any(votes):
            expected[mask] = int(np.argmax(votes))
            masks.append(mask)
    unified, kept = unify_semantics(semantic, instance, 3, 3, things)
    masks.sort(key=lambda mask: -np.count_nonzero(mask))
    assert (unified == expected).all() and unified.dtype == semantic.dtype
    assert (kept == sum(np.uint16(i) * mask for i, mask in enumerate(masks, start=1))).all()


def test_keep_whole_regions__cut_pixels_and_dropped_pieces_go_to_the_nearest_piece() -> None:
    # A wide cut leaves pieces of 3 pixels and of 1 of the upper region, and nothing of those below.
    regions = draw("1111111111", "0000000000", "2222000333")
    cut = draw("0001111101", "0000000000", "1111000111").astype(bool)
    connected = cut_components(regions)
    whole = keep_whole_regions(cut_components(regions, cut), connected, min_area=4)
    assert (whole == draw("1111111111", "0000000000", "2222000000")).all(), "3 pixels are no instance"
    whole = keep_whole_regions(cut_components(regions, cut), connected, min_area=3)
    assert (whole == draw("1111111111", "0000000000", "2222000333")).all()
    whole = keep_whole_regions(cut_components(regions, cut), connected, min_area=1)
    assert (whole == draw("1111112222", "0000000000", "3333000444")).all()


@settings(max_examples=100)
@given(REGIONS, st.integers(0, 2**32 - 1), st.integers(1, 8), st.floats(0, 1))
def test_keep_whole_regions__a_region_is_shared_out_whole_or_not_at_all(
    regions: np.ndarray, seed: int, min_area: int, share: float
) -> None:
    cut = np.random.default_rng(seed).random(regions.shape) < share
    connected, pieces = cut_components(regions), cut_components(regions, cut)
    labels = keep_whole_regions(pieces, connected, min_area=min_area)
    for region in range(1, int(connected.max()) + 1):
        inside = connected == region
        large = [
            piece for piece in np.unique(pieces[inside]) if piece and (pieces == piece).sum() >= min_area
        ]
        expected = len(large) or int(inside.sum() >= min_area)
        assert len(np.unique(labels[inside])) == max(1, expected)
        assert bool(labels[inside].all()) == bool(labels[inside].any()) == bool(expected)
        for piece in large:
            assert len(np.unique(labels[pieces == piece])) == 1
    assert not labels[regions == 0].any()
    assert (np.diff(np.bincount(labels.ravel())[1:]) <= 0).all(), "ids fall in area"


def test_keep_whole_regions__far_pixels_go_to_the_nearest_piece() -> None:
    regions = np.ones((41, 80), np.uint8)
    cut = np.ones(regions.shape, bool)
    cut[:, :10], cut[:, 60:] = False, False
    labels = keep_whole_regions(cut_components(regions, cut), cut_components(regions))
    # Columns 0-9 and 60-79 are pieces: the middle between columns 9 and 60 is 34.5.
    assert (labels[:, 35:] == 1).all() and (labels[:, :35] == 2).all()


def test_unify_semantics__runs_and_pixels_are_counted_alike() -> None:
    """A noisy map is counted pixel by pixel; wide copies of its pixels are runs."""
    rng = np.random.default_rng(0)
    semantic = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (12, 17))
    instance = rng.integers(0, 5, semantic.shape).astype(np.uint16) * 7
    for things in (None, (1, 3)):
        one = unify_semantics(semantic, instance, 4, 255, things)
        wide = unify_semantics(semantic.repeat(16, axis=1), instance.repeat(16, axis=1), 4, 255, things)
        for narrow, many in zip(one, wide, strict=True):
            assert narrow.dtype == many.dtype and (narrow.repeat(16, axis=1) == many).all()
