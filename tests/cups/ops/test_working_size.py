"""The size at which an image is seen, and tiles that cover it."""

from __future__ import annotations

import numpy as np
import pytest

from cups.ops.working_size import fitted_size, resize_pixels, tiles_of


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((192, 384), (192, 384)),
        ((768, 1536), (192, 384)),
        ((96, 192), (192, 384)),
        ((200, 2000), (192, 1920)),  # a panorama has the height of the training images
        ((400, 400), (272, 272)),  # a square one as many pixels: 272 * 272 is 192 * 384, rounded
        ((4032, 3024), (314, 235)),  # a telephone held upright
    ],
)
def test_fitted_size__height_of_wide_images_and_area_of_narrow_ones(
    size: tuple[int, int], seen: tuple[int, int]
) -> None:
    assert fitted_size(size, (192, 384)) == seen
    assert fitted_size(size, None) == size


def test_resize_pixels__shrinks_by_the_mean() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[::2] = 200
    assert resize_pixels(image, (4, 4)) is image
    assert (resize_pixels(image, (2, 2)) == 100).all()
    assert resize_pixels(image, (8, 6)).shape == (8, 6, 3)


@pytest.mark.parametrize("size", [(100, 100), (64, 1000), (1000, 64), (301, 517), (1, 50_000)])
def test_tiles_of__cores_cover_each_pixel_once(size: tuple[int, int]) -> None:
    tiles = tiles_of(size, limit=10_000)
    seen, decided = np.zeros(size, int), np.zeros(size, int)
    for tile in tiles:
        top, left, bottom, right = tile.core
        assert tile.height * tile.width <= 10_000
        assert tile.top <= top < bottom <= tile.top + tile.height <= size[0]
        assert tile.left <= left < right <= tile.left + tile.width <= size[1]
        seen[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
        decided[top:bottom, left:right] += 1
    assert (decided == 1).all() and (len(tiles) == 1) == (size == (100, 100)) and seen.min() == 1
    # An object at a border is seen whole by somebody: neighbours share a quarter of a tile, up to rounding.
    assert len(tiles) == 1 or (seen > 1).mean() > 0.2
