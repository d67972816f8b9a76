"""A small street of upright boards: which of them look like road users."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cups.ops.ground import GroundPlane, ObjectModel, fit_ground, object_regions

HEIGHT, WIDTH, FOCAL, HORIZON, CAMERA = 192, 384, 400.0, 86.0, 1.3
FAR = 80.0

CAR = (-3.0, 12.0, 1.8, 1.5, 0.0)
PERSON = (1.5, 9.0, 0.5, 1.75, 0.0)
BUS = (5.0, 20.0, 2.5, 3.2, 0.0)
POST = (3.2, 8.0, 0.15, 3.0, 0.0)
SIGN = (-1.2, 9.0, 0.7, 0.7, 2.2)
HOUSE = (-9.0, 18.0, 8.0, 12.0, 0.0)


def street(*boards: tuple[float, float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Render (x, z, width, height, base) boards in metres: depth (H, W) and board number (H, W), 0 = none."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    drop = np.maximum(rows - HORIZON, 1e-3)
    depth = np.minimum(FOCAL * CAMERA / drop, FAR)
    number = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for index in sorted(range(len(boards)), key=lambda i: -boards[i][1]):
        x, z, width, height, base = boards[index]
        left = WIDTH / 2 + FOCAL * (x - width / 2) / z
        right = WIDTH / 2 + FOCAL * (x + width / 2) / z
        top = HORIZON + FOCAL * (CAMERA - base - height) / z
        bottom = HORIZON + FOCAL * (CAMERA - base) / z
        board = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
        depth[board], number[board] = z, index + 1
    return depth.astype(np.float32), number


def test_fit_ground__finds_horizon_and_camera_height() -> None:
    ground = fit_ground(street(CAR, PERSON, BUS, HOUSE)[0])
    assert ground is not None
    assert ground.horizon == pytest.approx(HORIZON, abs=0.5)
    assert ground.slope == pytest.approx(1 / (FOCAL * CAMERA), rel=0.01)


def test_fit_ground__a_wall_is_no_street() -> None:
    assert fit_ground(np.full((HEIGHT, WIDTH), 6.0, np.float32)) is None
    assert fit_ground(np.full((4, 8), 6.0, np.float32)) is None


def test_height__in_camera_heights_whatever_the_unit() -> None:
    depth, number = street(PERSON)
    for unit in (1.0, 37.0):
        ground = fit_ground(depth * unit)
        assert ground is not None
        heights = ground.height(depth * unit)
        assert heights[number == 1].max() == pytest.approx(1.75 / CAMERA, abs=0.05)
        assert np.abs(heights[150:, :]).max() < 0.05


@pytest.mark.parametrize("board", [CAR, PERSON, BUS], ids=["car", "person", "bus"])
def test_object_regions__road_users_are_objects(board: tuple[float, ...]) -> None:
    depth, number = street(board)  # type: ignore[arg-type]
    found = object_regions(depth, GroundPlane(HORIZON, 1 / (FOCAL * CAMERA)))
    assert found.max() == 1
    assert (found[number == 1] > 0).mean() > 0.75
    assert (found[number == 0] > 0).mean() < 0.01


@pytest.mark.parametrize("board", [POST, SIGN, HOUSE], ids=["post", "sign", "house"])
def test_object_regions__street_furniture_and_houses_are_not(board: tuple[float, ...]) -> None:
    depth, _ = street(board)  # type: ignore[arg-type]
    assert object_regions(depth, GroundPlane(HORIZON, 1 / (FOCAL * CAMERA))).max() == 0


def test_object_regions__a_car_in_front_of_a_house_is_one_object() -> None:
    depth, number = street(CAR, (-3.0, 18.0, 14.0, 12.0, 0.0))
    found = object_regions(depth, GroundPlane(HORIZON, 1 / (FOCAL * CAMERA)))
    assert found.max() == 1
    assert (found[number == 1] > 0).mean() > 0.75 and not (found[number == 2] > 0).any()


def test_object_regions__a_gateway_in_a_house_is_not_in_front() -> None:
    # As wide and high as a car, but behind its surroundings.
    depth, number = street((0.0, 10.0, 12.0, 12.0, 0.0))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth[(number == 1) & (np.abs(columns - 190) < 30) & (rows > HORIZON - 8)] = 14.0
    assert object_regions(depth, GroundPlane(HORIZON, 1 / (FOCAL * CAMERA))).max() == 0


@pytest.mark.parametrize("board", [CAR, PERSON, BUS], ids=["car", "person", "bus"])
def test_object_regions__outlines_blurred_by_a_network(board: tuple[float, ...]) -> None:
    """Right beside a blurred outline hardly anything is farther: without `blur`, no object stood in front."""
    x, z = board[:2]
    depth, number = street(board, (x, 1.5 * z, 14.0, 12.0, 0.0))  # type: ignore[arg-type]
    blurred = np.exp(cv2.GaussianBlur(np.log(depth), (0, 0), 2.5))
    ground = GroundPlane(HORIZON, 1 / (FOCAL * CAMERA))
    assert object_regions(blurred, ground).max() == 0
    found = object_regions(blurred, ground, ObjectModel(edge=0.03, blur=0.03)) > 0
    assert (found & (number == 1)).sum() / (found | (number == 1)).sum() > 0.8


def test_object_regions__a_blurred_house_is_no_object() -> None:
    blurred = np.exp(cv2.GaussianBlur(np.log(street(HOUSE)[0]), (0, 0), 2.5))
    ground = GroundPlane(HORIZON, 1 / (FOCAL * CAMERA))
    assert object_regions(blurred, ground, ObjectModel(edge=0.03, blur=0.03)).max() == 0
