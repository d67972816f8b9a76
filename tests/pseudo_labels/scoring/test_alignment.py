"""Borders and edges of pictures whose displacement is known."""

from __future__ import annotations

import numpy as np
import pytest

from cups.ops.borders import label_borders
from pseudo_labels.scoring.alignment import EdgeFit, edge_fit, edge_strength, work_size
from pseudo_labels.scoring.diagnosis_frames import is_displaced, is_unrelated


def scene(seed: int = 0, size: tuple[int, int] = (96, 192)) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of random boxes with noise, and its labels."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(size, np.int64)
    for number in range(1, 25):
        top, left = generator.integers(0, size[0] - 12), generator.integers(0, size[1] - 12)
        height, width = generator.integers(8, 30, 2)
        labels[top : top + height, left : left + width] = number
    colors = generator.integers(30, 220, (25, 3))
    noise = generator.normal(0, 6, (*size, 3))
    return (colors[labels] + noise).clip(0, 255).astype(np.uint8), labels


def test_edge_strength__is_relative_to_the_surroundings() -> None:
    image = np.full((80, 80, 3), 50, np.uint8)
    assert np.abs(edge_strength(image)).max() == 0.0
    image[:, 40:] = 200
    strength = edge_strength(image)
    assert strength[:, 39:41].min() > 3 and strength[:, 30].max() < 0


def test_edge_fit__labels_in_place() -> None:
    peak = edge_fit(*scene(), void=-1, reach=0.25).peak()
    assert (peak.down, peak.right) == (0, 0) and peak.score == peak.at_zero > 0.5
    assert not is_displaced(peak, (96, 192), 0.01) and not is_unrelated(peak)


@pytest.mark.parametrize("shift", [(0, 7), (-5, 0), (9, -20)])
def test_edge_fit__finds_the_displacement(shift: tuple[int, int]) -> None:
    image, labels = scene()
    fit = edge_fit(image, np.roll(labels, shift, (0, 1)), -1, 0.25)
    for peak in (fit.peak(), *(fit.peak(index) for index in range(4))):
        assert (peak.down, peak.right) == (-shift[0], -shift[1])
    assert is_displaced(fit.peak(), (96, 192), 0.01)
    assert not is_displaced(fit.peak(), (96, 192), 0.25)


def test_edge_fit__equals_the_plain_sum() -> None:
    image, labels = scene()
    fit = edge_fit(image, labels, -1, 0.1)
    edges, borders = edge_strength(image), label_borders(labels, -1)
    radius = fit.sums.shape[1] // 2
    down, right = 4, -6
    moved = np.zeros_like(edges)
    moved[: 96 - down, -right:] = edges[down:, :right]  # edges under each pixel moved down and left
    assert fit.scores()[radius + down, radius + right] == pytest.approx(
        moved[borders].sum() / borders.sum(), abs=1e-4
    )


def test_edge_fit__magnified_labels_pull_the_quarters_apart() -> None:
    fits: EdgeFit | None = None
    for seed in range(8):
        image, labels = scene(seed, (192, 384))
        one = edge_fit(image, labels[10:-10, 20:-20], -1, 0.25)
        fits = one if fits is None else fits + one
    assert fits is not None
    lower_right, upper_left = fits.peak(3), fits.peak(0)
    assert upper_left.down > 0 and upper_left.right > 0 > lower_right.right and lower_right.down < 0
    assert is_displaced(upper_left, (192, 384), 0.01)


def test_edge_fit__labels_of_another_picture() -> None:
    peak = edge_fit(scene(0)[0], scene(1)[1], -1, 0.25).peak()
    assert not is_displaced(peak, (96, 192), 0.01) and is_unrelated(peak)


def test_edge_fit__label_files_of_another_size() -> None:
    image, labels = scene(0, (192, 384))
    peak = edge_fit(image, labels[::2, ::2], -1, 0.25).peak()
    assert max(abs(peak.down), abs(peak.right)) <= 1 and peak.clearness > 10


def test_edge_fit__no_borders() -> None:
    peak = edge_fit(scene()[0], np.zeros((96, 192), np.int64), -1, 0.25).peak()
    assert peak.score == 0.0 and not is_displaced(peak, (96, 192), 0.01)


def test_work_size__large_images_are_compared_smaller() -> None:
    assert work_size((1024, 2048)) == (512, 1024) and work_size((192, 384)) == (192, 384)
