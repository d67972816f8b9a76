"""Regions of even colour."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cups.data.toy.scene import build_scene, render_frame
from cups.ops.regions import LARGEST_SHARE, Regions, even_regions, halved, in_units_of_contrast


def purity(regions: Regions, truth: np.ndarray) -> tuple[float, float]:
    """Share of pixels in the majority class of their region: of all regions, and of the largest."""
    counts = np.zeros((regions.count, int(truth.max()) + 1), dtype=np.int64)
    np.add.at(counts, (regions.ids, truth), 1)
    largest = counts[counts.sum(axis=1).argmax()]
    return float(counts.max(axis=1).sum() / counts.sum()), float(largest.max() / largest.sum())


def test_even_regions__two_boards_on_a_ground() -> None:
    image = np.full((40, 60, 3), (90, 120, 160), dtype=np.uint8)
    truth = np.zeros((40, 60), dtype=np.int64)
    for board, left in ((1, 5), (2, 35)):
        image[5:20, left : left + 20], truth[5:20, left : left + 20] = (200, 40, 40), board
    regions = even_regions(image)
    assert purity(regions, truth)[0] > 0.99, "equal colours that do not touch are not one region"
    assert [len(np.unique(regions.ids[truth == board])) for board in (1, 2)] == [1, 1]


def test_even_regions__large_and_narrow_images_keep_their_size() -> None:
    image = np.zeros((200, 700, 3), dtype=np.uint8)
    image[:, 350:] = 200
    for picture in (image, image[:2], image[:, :1], image[:1, :1]):
        regions = even_regions(picture)
        assert regions.ids.shape == picture.shape[:2]
        assert np.array_equal(np.unique(regions.ids), np.arange(regions.count)), "no number without a pixel"
    ids = even_regions(image).ids
    assert not np.isin(ids[:, :345], ids[:, 355:]).any()


def night(image: np.ndarray) -> np.ndarray:
    noisy = 0.12 * image + np.random.default_rng(0).normal(0, 1.5, image.shape)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def haze(image: np.ndarray) -> np.ndarray:
    return np.round(0.2 * image + 130).astype(np.uint8)


def dark(image: np.ndarray) -> np.ndarray:
    return np.round(255 * (image / 255) ** 3).astype(np.uint8)


def photograph(image: np.ndarray) -> np.ndarray:
    """Darker, blurred, vignetted, noisy, compressed."""
    rows, columns = np.mgrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j]
    light = cv2.GaussianBlur(255 * (image / 255) ** 2, (0, 0), 0.8)
    light *= (1 - 0.3 * (rows**2 + columns**2))[..., None]
    noisy = light + np.random.default_rng(0).normal(0, 2, image.shape)
    packed = cv2.imencode(".jpg", np.clip(noisy, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))


@pytest.fixture(scope="module")
def streets() -> list[tuple[np.ndarray, np.ndarray]]:
    """Two toy streets with their classes."""
    pairs = []
    for number in (0, 1):
        generator = np.random.default_rng((0, 2, number))
        scene = build_scene(generator, number, np.arange(5))
        image, frame, _ = render_frame(scene, 0, 192, 384, generator)
        pairs.append((image, frame.label.astype(np.int64)))
    return pairs


@pytest.mark.parametrize("degrade", [np.asarray, dark, night, haze, photograph], ids=lambda way: way.__name__)
def test_even_regions__follow_the_classes_of_dark_and_hazy_streets(
    streets: list[tuple[np.ndarray, np.ndarray]], degrade: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Mean shift with a fixed step of grey levels left 31 % at night, 39 % in haze, 67 % in the dark."""
    for image, classes in streets:
        everywhere, largest = purity(even_regions(degrade(image)), classes)
        assert everywhere > 0.88 and largest > 0.75


@pytest.mark.parametrize("kind", ["black", "even", "noise", "ramp", "one bright pixel"])
def test_even_regions__none_floods(kind: str) -> None:
    generator = np.random.default_rng(0)
    image = {
        "black": np.zeros((90, 130, 3), dtype=np.uint8),
        "even": np.full((90, 130, 3), 77, dtype=np.uint8),
        "noise": generator.integers(0, 3, (90, 130, 3)).astype(np.uint8),
        "ramp": np.broadcast_to(np.arange(130, dtype=np.uint8)[None, :, None], (90, 130, 3)).copy(),
        "one bright pixel": np.zeros((90, 130, 3), dtype=np.uint8),
    }[kind]
    if kind == "one bright pixel":
        image[40, 60] = 255
    areas = np.bincount(even_regions(image).ids.ravel())
    assert areas.max() <= LARGEST_SHARE * image.shape[0] * image.shape[1] and areas.min() > 0


@settings(max_examples=30)
@given(
    ids=arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3)),
    most=st.integers(1, 40),
)
def test_halved__divides_and_never_joins(ids: np.ndarray, most: int) -> None:
    parts = halved(ids.copy(), most)
    areas = np.bincount(parts.ravel())
    assert areas.max() <= most
    for part in np.unique(parts):
        assert len(np.unique(ids[parts == part])) == 1, "a part lies in one region"
    kept = [value for value in np.unique(ids) if (ids == value).sum() <= most]
    assert all(np.array_equal(parts == value, ids == value) for value in kept)


@pytest.mark.parametrize("factor", [0.25, 0.5])
def test_in_units_of_contrast__brightness_is_no_unit(factor: float) -> None:
    image = (4 * np.random.default_rng(0).integers(0, 64, (40, 60, 3))).astype(np.uint8)
    darker = (image * factor).astype(np.uint8)
    assert np.allclose(in_units_of_contrast(image), in_units_of_contrast(darker), atol=1e-3)


def test_mean__weights_cells_by_shared_pixels() -> None:
    # 2 x 4 pixels, cells of 2 x 2 with values 1 and 3; region 0 has the first cell and half of the second
    ids = np.array([[0, 0, 0, 1], [0, 0, 0, 1]])
    regions = Regions(ids, 2)
    means = regions.mean(np.array([[[1.0], [3.0]]]))
    assert means[:, 0].tolist() == pytest.approx([(4 * 1 + 2 * 3) / 6, 3.0])
    assert regions.spread(np.array([7, 9])).tolist() == [[7, 7, 7, 9], [7, 7, 7, 9]]
    assert regions.at_cells(1, 2).tolist() == [[0, 1]]


def test_most_frequent__counts_pixels_and_takes_the_smaller_of_equals() -> None:
    ids = np.array([[0, 0, 0, 1, 1, 2]])
    values = np.array([[7, 4, 7, 5, 3, 0]])
    assert Regions(ids, 3).most_frequent(values).tolist() == [7, 3, 0]
