"""Regions to instances: split along depth edges, and by slots."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from scipy import ndimage

from pseudo_labels.algorithms import instance_splitting
from pseudo_labels.algorithms.instance_splitting import depth_guided_instances, slot_instances
from pseudo_labels.settings.dinosaur import SlotSettings
from pseudo_labels.settings.groups import Splitting

CARS = (13,)


def splitting(threshold: float = 0.15, **settings: Any) -> Splitting:
    """Settings for stereo depth and named classes."""
    return Splitting(grad_threshold=threshold, **settings).for_depth("stereo", named=True)


SETTINGS = splitting(0.2)


def two_cars() -> tuple[np.ndarray, np.ndarray]:
    """A region of class 13 whose left half is 8 m away and whose right half is 12 m away."""
    semantic = np.zeros((32, 64), np.uint8)
    semantic[8:24, 8:56] = 13
    depth = np.full((32, 64), 30.0, np.float32)
    depth[8:24, 8:30], depth[8:24, 30:56] = 8.0, 12.0
    return semantic, depth


def test_depth_guided_instances__splits_two_overlapping_cars() -> None:
    semantic, depth = two_cars()
    instances = depth_guided_instances(semantic, depth, CARS, SETTINGS)
    assert instances[:, 30:][semantic[:, 30:] == 13].tolist() == [1] * (16 * 26)
    assert instances[:, :30][semantic[:, :30] == 13].tolist() == [2] * (16 * 22)
    assert not instances[semantic != 13].any()


def test_depth_guided_instances__without_depth_one_component() -> None:
    semantic, _ = two_cars()
    assert ((depth_guided_instances(semantic, None, CARS, SETTINGS) == 1) == (semantic == 13)).all()


def test_depth_guided_instances__a_high_threshold_does_not_split() -> None:
    semantic, depth = two_cars()
    settings = splitting(0.7)
    inside = depth_guided_instances(semantic, depth, CARS, settings)[10:22, 10:54]
    assert (inside == 1).all()


def test_depth_guided_instances__depth_of_another_size() -> None:
    semantic, depth = two_cars()
    large = np.repeat(np.repeat(depth, 2, axis=0), 2, axis=1)
    instances = depth_guided_instances(semantic, large, CARS, SETTINGS)
    assert instances.shape == semantic.shape and instances.max() == 2


def test_depth_guided_instances__class_zero_can_be_a_thing() -> None:
    semantic = np.full((8, 8), 5, np.uint8)
    semantic[2:6, 2:6] = 0
    settings = splitting()
    assert ((depth_guided_instances(semantic, None, (0,), settings) == 1) == (semantic == 0)).all()


def test_depth_guided_instances__merged_things_keep_a_two_class_car_whole() -> None:
    # Overclusters: the upper half of a car is class 3 (windows), the lower class 4 (body).
    semantic = np.zeros((20, 20), np.uint8)
    semantic[4:10, 4:16], semantic[10:16, 4:16] = 3, 4
    apart = depth_guided_instances(semantic, None, (3, 4), splitting())
    whole = depth_guided_instances(semantic, None, (3, 4), splitting(proposals="things"))
    assert apart.max() == 2 and whole.max() == 1


def test_object_instances__without_thing_pixels_nothing_is_kept() -> None:
    rows = np.arange(64, dtype=np.float32)[:, None]
    depth = np.repeat(np.minimum(180 / np.maximum(rows - 28, 0.1), 60), 128, axis=1)
    depth[20:44, 50:70] = 11.5
    settings = splitting(proposals="objects")
    semantic = np.zeros((64, 128), np.uint8)
    assert not depth_guided_instances(semantic, depth, (1,), settings).any()
    semantic[20:44, 50:60] = 1
    assert depth_guided_instances(semantic, depth, (1,), settings)[25, 68] == 1


@pytest.mark.parametrize(("width", "height"), [(150, 60), (80, 32)])
@pytest.mark.parametrize(("rows", "blur"), [(512, 5), (1024, 5), (512, 0)])
@pytest.mark.parametrize("source", ["stereo", "network"])
def test_depth_guided_instances__an_object_keeps_its_rim(
    width: int, height: int, rows: int, blur: int, source: str
) -> None:
    """Blurred outlines cost the larger one 35 % of its area, and the smaller one all."""
    semantic, depth = np.zeros((rows, 2 * rows), np.uint8), np.full((rows, 2 * rows), 30, np.float32)
    place = np.s_[200 : 200 + height, 300 : 300 + width]
    semantic[place], depth[place] = 13, 10
    if blur:
        depth = cv2.GaussianBlur(depth, (0, 0), blur)
    settings = Splitting(grad_threshold=0.03).for_depth(source, named=True)
    instances = depth_guided_instances(semantic, depth, CARS, settings)
    assert (instances[place] == 1).mean() >= 0.99 and not instances[semantic == 0].any()


def test_depth_guided_instances__areas_are_the_same_share_at_every_size() -> None:
    small, depth = two_cars()
    for scale in (1, 2, 5):
        semantic, far = (np.kron(one, np.ones((scale, scale), one.dtype)) for one in (small, depth))
        # The cars have 416 and 352 of 32x64 pixels, 106496 and 90112 of a 512-row image; both 196608.
        for area, count in ((60000, 2), (110000, 1), (200000, 0)):
            found = depth_guided_instances(semantic, far, CARS, splitting(0.2, min_area=area))
            assert found.max() == count


def test_linear__is_the_published_definition() -> None:
    """Sobel above tau on depth in 0-1, 4-connected pieces of at least an area, 3 pixels given back."""
    rng = np.random.default_rng(3)
    depth = cv2.GaussianBlur(rng.random((512, 1024), dtype=np.float32), (0, 0), 30)
    depth = np.where(depth > np.median(depth), 40, 5).astype(np.float32) + 0.1
    semantic = np.where(np.indices((512, 1024))[1] % 300 < 200, 13, 0).astype(np.uint8)
    settings = Splitting(edge="linear", min_area=500).for_depth("network", named=True)
    assert settings.grad_threshold == 0.2 and settings.dilation == 3 and settings.proposals == "classes"
    smooth = ndimage.gaussian_filter((depth - depth.min()) / (depth.max() - depth.min()), 1.0)
    strength = np.hypot(ndimage.sobel(smooth, axis=0), ndimage.sobel(smooth, axis=1))
    pieces, _ = ndimage.label((semantic == 13) & ~(strength > 0.2))
    large = np.flatnonzero(np.bincount(pieces.ravel()) >= 500)[1:]
    distance = ndimage.distance_transform_edt(~np.isin(pieces, large))
    found = depth_guided_instances(semantic, depth, CARS, settings)
    assert found.max() == len(large) > 3
    np.testing.assert_array_equal(found > 0, (semantic == 13) & (distance <= 3))
    for piece in large:
        assert len(np.unique(found[pieces == piece])) == 1


@pytest.mark.parametrize(("labels", "maps"), [(16, 16), (32, 16), (16, 32), (8, 16)])
def test_linear__labels_and_depth_of_every_size_cut_alike(labels: int, maps: int) -> None:
    semantic, depth = two_cars()
    semantic = np.kron(semantic, np.ones((labels, labels), np.uint8))
    depth = np.kron(depth, np.ones((maps, maps), np.float32))
    settings = Splitting(edge="linear").for_depth("network", named=True)
    found = depth_guided_instances(semantic, depth, CARS, settings)
    assert found.max() == 2
    assert (found > 0)[semantic == 13].mean() > 0.99


def test_network_depth_is_interpolated_stereo_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a small map would be outlines; a mean of two depths is a surface that does not exist."""
    seen: list[np.ndarray] = []

    def edges(depth: np.ndarray, *_: Any, **__: Any) -> np.ndarray:
        seen.append(depth)
        return np.zeros_like(depth)

    monkeypatch.setattr(instance_splitting, "depth_edges", edges)
    ramp = np.arange(1, 17, dtype=np.float32)[None].repeat(8, axis=0)
    for source in ("network", "stereo"):
        settings = Splitting().for_depth(source, named=True)
        depth_guided_instances(np.full((32, 64), 13, np.uint8), ramp, CARS, settings)
    smooth, stepped = seen
    # Half-pixel centres: column j shows the place (j + 0.5) / 4 - 0.5 of the ramp.
    expected = np.clip((np.arange(64) + 0.5) / 4 - 0.5, 0, 15) + 1
    np.testing.assert_allclose(smooth[0], expected, atol=1e-5)
    np.testing.assert_array_equal(stepped[0], np.arange(64) // 4 + 1)


SLOTS = np.array([[0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [2, 2, 2, 2, 2, 2]])
SEMANTIC = np.array([[13, 13, 13, 13, 11, 13], [13, 13, 13, 13, 11, 13], [0, 0, 13, 0, 0, 0]], np.uint8)
"""Slot 0 holds two cars (columns 0-1 and 5), slot 1 a car and a person, slot 2 the street and a sliver."""
AREA, LENGTH = round(2 * (512 / 3) ** 2), round(512 / 3)
"""2 and 1 pixels of these maps with their 3 rows, in pixels of a 512-row image."""


@pytest.mark.parametrize(
    ("things", "settings", "expected"),
    [
        (
            (11, 13),
            SlotSettings(min_area=AREA, dilation=0),
            [[1, 1, 2, 2, 3, 4], [1, 1, 2, 2, 3, 4], [0, 0, 0, 0, 0, 0]],
        ),
        (
            (11, 13),
            SlotSettings(min_area=AREA, dilation=LENGTH),
            [[2, 2, 1, 1, 3, 4], [2, 2, 1, 1, 3, 4], [0, 0, 1, 0, 0, 0]],
        ),
        (
            (11, 13),
            SlotSettings(min_area=AREA, dilation=0, proposals="things"),
            [[2, 2, 1, 1, 1, 3], [2, 2, 1, 1, 1, 3], [0, 0, 0, 0, 0, 0]],
        ),
        (
            (13,),
            SlotSettings(min_area=AREA * 3 // 2, proposals="slots", min_thing_share=0.6),
            [[2, 2, 1, 1, 1, 0], [2, 2, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]],
        ),
    ],
    ids=["classes", "sliver given back", "things", "slots"],
)
def test_slot_instances__by_hand(
    things: tuple[int, ...], settings: SlotSettings, expected: list[list[int]]
) -> None:
    np.testing.assert_array_equal(slot_instances(SLOTS, SEMANTIC, things, settings), expected)


def test_slot_instances__without_semantics() -> None:
    settings = SlotSettings(min_area=1, proposals="slots", min_thing_share=0)
    found = slot_instances(SLOTS, None, (), settings)
    np.testing.assert_array_equal(found, [[3, 3, 1, 1, 1, 4], [3, 3, 1, 1, 1, 4], [2, 2, 2, 2, 2, 2]])
