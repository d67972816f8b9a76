"""Regions of even colour."""

from __future__ import annotations

import numpy as np
import pytest

from cups.ops.regions import Regions, mean_shift_regions


def test_mean_shift_regions__two_boards_on_a_ground() -> None:
    image = np.full((40, 60, 3), (90, 120, 160), dtype=np.uint8)
    image[5:20, 5:25] = (200, 40, 40)
    image[5:20, 35:55] = (200, 40, 40)
    regions = mean_shift_regions(image)
    # Equal colours that do not touch are two regions.
    assert regions.count == 3
    assert len({int(regions.ids[10, 10]), int(regions.ids[10, 45]), int(regions.ids[30, 30])}) == 3
    assert (regions.ids[5:20, 5:25] == regions.ids[10, 10]).all()


def test_mean_shift_regions__wide_images_keep_their_size() -> None:
    image = np.zeros((64, 1030, 3), dtype=np.uint8)
    image[:, 500:] = 200
    regions = mean_shift_regions(image)
    assert regions.ids.shape == (64, 1030) and regions.count >= 2 and regions.ids.max() < regions.count


def test_mean__weights_cells_by_shared_pixels() -> None:
    # 2 x 4 pixels, cells of 2 x 2 with values 1 and 3; region 0 has the first cell and half of the second
    ids = np.array([[0, 0, 0, 1], [0, 0, 0, 1]])
    regions = Regions(ids, 2)
    means = regions.mean(np.array([[[1.0], [3.0]]]))
    assert means[:, 0].tolist() == pytest.approx([(4 * 1 + 2 * 3) / 6, 3.0])
    assert regions.spread(np.array([7, 9])).tolist() == [[7, 7, 7, 9], [7, 7, 7, 9]]
    assert regions.at_cells(1, 2).tolist() == [[0, 1]]
