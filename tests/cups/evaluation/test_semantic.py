"""Semantic scores from counts, and the size and crop of a protocol."""

from __future__ import annotations

import torch

from cups.evaluation.semantic import to_protocol
from cups.metrics.protocol import NAMED


def test_to_protocol__resizes_the_short_side_and_crops_the_centre() -> None:
    ids = torch.arange(8).repeat_interleave(160).expand(640, 1280)
    view = to_protocol(ids, NAMED["semantic-27-crop320"], 255)
    # 640x1280 -> 320x640 -> the middle 320 columns, two eighths on each side of the centre.
    assert view.shape == (320, 320) and view[0, ::80].tolist() == [2, 3, 4, 5]
