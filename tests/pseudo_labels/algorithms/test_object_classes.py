"""Objects are told apart by size, shape and look; outlines follow the regions of the image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cups.ops.regions import Regions
from pseudo_labels.algorithms.object_classes import (
    CLUSTER_SPREAD,
    GEOMETRY,
    NO_STREET,
    SPREADS,
    Objects,
    classes_of,
    describe_objects,
    fit_classes,
    follow_edges,
    label_table,
    object_semantics,
)

UNIT = math.sqrt(GEOMETRY)
HEIGHT, WIDTH, HORIZON = 64, 128, 28


def street() -> np.ndarray:
    """Depth of a flat street: 180 pixels * camera heights below row 28, far above."""
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None]
    return np.repeat(np.minimum(180 / np.maximum(rows - HORIZON, 0.1), 60), WIDTH, axis=1)


def with_board(z: float, height: float, width: float, depth: np.ndarray) -> np.ndarray:
    """Put a board on the street into the depth; return its mask. Sides are in camera heights."""
    mask = np.zeros(depth.shape, dtype=bool)
    bottom = round(HORIZON + 180 / z)
    mask[round(bottom - 180 * height / z) : bottom, 20 : 20 + round(180 * width / z)] = True
    depth[mask] = z
    return mask


def test_follow_edges__a_region_goes_to_what_has_most_of_it() -> None:
    ids = np.repeat(np.array([[0, 0, 1, 1, 1, 2]]), 4, axis=0)
    instances = np.zeros((4, 6), np.uint16)
    instances[:, 1:4] = 7  # half of region 0, two thirds of region 1
    instances[0, 5] = 9  # a quarter of region 2
    followed = follow_edges(instances, Regions(ids, 3), min_area=1)
    assert followed.tolist() == [[0, 0, 1, 1, 1, 0]] * 4 and followed.dtype == np.uint16
    assert not follow_edges(instances, Regions(ids, 3), min_area=13).any()


def test_describe_objects__numbers_by_hand() -> None:
    depth = street()
    mask = with_board(9.0, 1.0, 2.0, depth)
    semantic = np.where(np.arange(WIDTH) < 40, 1, 5) * np.ones((HEIGHT, 1), np.int64)
    found = describe_objects(semantic, mask.astype(np.uint16) * 4, depth, num_classes=3)
    assert found.ids.tolist() == [4] and found.vectors.shape == (1, GEOMETRY + 3)
    geometry = found.vectors[0, :GEOMETRY] * np.array(SPREADS) * UNIT
    sizes = (20, 40)
    assert geometry[0] == pytest.approx(math.log(sizes[0] * 9 / HEIGHT), abs=1e-4)
    assert geometry[1] == pytest.approx(math.log(sizes[1] * 9 / HEIGHT), abs=1e-4)
    assert geometry[2] == pytest.approx(math.log(sizes[1] / sizes[0]), abs=1e-4)
    assert geometry[3:5] == pytest.approx([0.05, 0.95], abs=0.15)  # from the street to a camera height
    assert geometry[5] == pytest.approx(1, abs=1e-4)
    # Half of it is cluster 1, half of it void.
    assert found.vectors[0, GEOMETRY:] * CLUSTER_SPREAD == pytest.approx([0, math.sqrt(0.5), 0], abs=1e-6)


def test_describe_objects__far_and_near_objects_of_one_size_are_alike() -> None:
    vectors = []
    for z in (6.0, 12.0):
        depth = street()
        mask = with_board(z, 1.0, 1.2, depth)
        vectors.append(describe_objects(np.zeros_like(depth, np.int64), mask * 1, depth, 1).vectors[0])
    assert vectors[0][:2] == pytest.approx(vectors[1][:2], abs=0.1)


def test_describe_objects__without_street_or_objects() -> None:
    wall = np.full((HEIGHT, WIDTH), 5.0, np.float32)
    mask = np.zeros((HEIGHT, WIDTH), np.uint16)
    assert describe_objects(mask, mask, wall, 4).vectors.shape == (0, GEOMETRY + 4)
    mask[10:20, 10:20] = 2
    vector = describe_objects(mask, mask, wall, 4).vectors[0]
    assert np.isfinite(vector).all()
    assert vector[3:5] * np.array(SPREADS[3:5]) * UNIT == pytest.approx(NO_STREET, abs=1e-5)


def test_classes__sizes_are_told_apart_where_clusters_are_the_same() -> None:
    rng, vectors, kinds = np.random.default_rng(0), [], []
    for kind, (height, width) in enumerate(((0.6, 1.2), (1.8, 3.5))):
        for _ in range(12):
            depth = street()
            mask = with_board(float(rng.uniform(9, 14)), height, width, depth)
            semantic = rng.integers(0, 3, depth.shape)
            vectors.append(describe_objects(semantic, mask * 1, depth, 3).vectors[0])
            kinds.append(kind)
    points = np.stack(vectors)
    classes = classes_of(points, fit_classes(points, 2, seed=0))
    assert len({(kind, found) for kind, found in zip(kinds, classes.tolist(), strict=True)}) == 2
    assert not len(classes_of(points[:0], points))


def test_label_table__stuff_keeps_its_order_things_take_the_class_with_most_of_them() -> None:
    centroids = np.zeros((2, GEOMETRY + 5), np.float32)
    centroids[0, GEOMETRY + 1], centroids[1, GEOMETRY + 3] = 0.9, 0.4
    assert label_table(centroids, (3, 1), 5, 255).tolist() == [0, 3, 1, 4, 2, 255]


def test_label_table__a_cluster_that_no_object_holds_is_void() -> None:
    centroids = np.zeros((2, GEOMETRY + 3), np.float32)
    centroids[1, GEOMETRY] = 0.5
    assert label_table(centroids, (0, 2), 3, 255).tolist() == [2, 0, 255, 255]


def test_object_semantics__objects_are_painted_over_stuff() -> None:
    semantic = np.array([[0, 1, 2, 255]])
    instances = np.array([[0, 5, 5, 0]])
    objects = Objects(np.array([5]), np.zeros((1, GEOMETRY + 3), np.float32))
    table = np.array([0, 2, 1, 255])
    assert object_semantics(semantic, instances, objects, np.array([3]), table).tolist() == [[0, 3, 3, 255]]
    nothing = Objects(np.zeros(0, np.int64), np.zeros((0, GEOMETRY + 3), np.float32))
    painted = object_semantics(semantic, instances * 0, nothing, np.zeros(0, np.int64), table)
    assert painted.tolist() == [[0, 2, 1, 255]]
