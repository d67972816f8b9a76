"""Resizing and cropping: images and ids move alike."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.ops.resize import center_crop_or_pad, nearest_indices, resize_ids, resize_image, scaled_size

sides = st.integers(1, 40)


@settings(max_examples=60)
@given(height=sides, width=sides, new_height=sides, new_width=sides)
def test_resize_ids__equals_nearest_exact(height: int, width: int, new_height: int, new_width: int) -> None:
    ids = torch.arange(height * width).reshape(height, width)
    expected = F.interpolate(ids[None, None].double(), size=(new_height, new_width), mode="nearest-exact")
    # At exact ties floating point may round either way; ours is exact integer arithmetic.
    ties = ((torch.arange(new_height) * 2 + 1) * height % (2 * new_height) == 0)[:, None] | (
        (torch.arange(new_width) * 2 + 1) * width % (2 * new_width) == 0
    )
    same = resize_ids(ids, (new_height, new_width)) == expected[0, 0].long()
    assert bool((same | ties).all())


def test_resize_ids__half_pixel_centres() -> None:
    """Scale 0.625: plain "nearest" takes 0, 1, 3, 4, 6: up to 0.3 pixels beside the bilinear image."""
    assert nearest_indices(8, 5).tolist() == [0, 2, 4, 5, 7]


def test_resize_ids__keeps_dtype_and_values() -> None:
    masks = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(0)) > 0.5
    assert resize_ids(masks, (12, 16)).dtype == torch.bool
    assert torch.equal(resize_ids(resize_ids(masks, (12, 16)), (6, 8)), masks)


def test_resize_image__constant_stays_and_same_size_is_a_no_op() -> None:
    image = torch.full((3, 5, 7), 0.25)
    assert resize_image(image, (5, 7)) is image
    torch.testing.assert_close(resize_image(image, (9, 4)), torch.full((3, 9, 4), 0.25))


def test_scaled_size__rounds_and_stays_positive() -> None:
    assert scaled_size((1024, 2048), 0.625) == (640, 1280)
    assert scaled_size((3, 3), 0.01) == (1, 1)


@pytest.mark.parametrize(("size", "first"), [((2, 2), 5.0), ((6, 6), -1.0), ((2, 6), -1.0)])
def test_center_crop_or_pad__sizes(size: tuple[int, int], first: float) -> None:
    # 0  1  2  3
    # 4 [5  6] 7   the centre 2 x 2
    # 8 [9 10] 11
    # 12 …
    tensor = torch.arange(16.0).reshape(4, 4)
    out = center_crop_or_pad(tensor, size, -1.0)
    assert out.shape == size
    assert float(out[0, 0]) == first
    assert float(out.max()) <= 15.0
