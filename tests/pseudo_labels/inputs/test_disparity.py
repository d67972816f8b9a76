"""Depth from disparity: holes, sky, the formula."""

from __future__ import annotations

import numpy as np

from pseudo_labels.inputs.cameras import Camera
from pseudo_labels.inputs.disparity import depth_from_disparity, fill_unknown


def test_depth_from_disparity__baseline_times_focal_over_disparity() -> None:
    disparity = np.array([[10.0, 20.0, 0.0]], np.float32)
    depth = depth_from_disparity(disparity, np.ones((1, 3), bool), Camera(1000.0, 0.2), 0.5, 80.0)
    assert depth.tolist() == [[20.0, 10.0, 80.0]], "zero disparity is the horizon, clipped"
    assert depth.dtype == np.float16


def test_fill_unknown__takes_the_farther_neighbour_of_the_row() -> None:
    # 0 = unknown. The hole between a near (40) and a far (8) surface is background; the empty row copies.
    disparity = np.array([[40, 9, 9, 8], [40, 0, 0, 8], [0, 0, 0, 0], [0, 5, 0, 0]], np.float32)
    filled = fill_unknown(disparity, disparity > 0)
    assert filled.tolist() == [[40, 9, 9, 8], [40, 8, 8, 8], [40, 8, 8, 8], [5, 5, 5, 5]]


def test_fill_unknown__sky_is_far_the_blind_side_is_not() -> None:
    # Column 0 is unknown all the way down: the side that only one camera sees. Column 1 begins with sky above
    # a roof (6); the gap below the roof belongs to the wall behind (7) again.
    known = [[0, 0, 7], [0, 0, 7], [0, 6, 7], [0, 6, 7], [0, 0, 7], [0, 0, 3]]
    disparity = np.array(known, np.float32)
    filled = fill_unknown(disparity, disparity > 0)
    assert filled[:, 1].tolist() == [0, 0, 6, 6, 7, 3]
    assert filled[2:4, 0].tolist() == [6, 6] and filled[4:, 0].tolist() == [7, 3]
