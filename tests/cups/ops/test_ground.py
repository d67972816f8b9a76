"""A small street of upright boards: which of them look like road users."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cups.ops.ground import GroundPlane, ObjectModel, find_street, fit_ground, object_regions

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


def ray_cast(
    pitch: float = 0, roll: float = 0, focal: float = 1.0, camera: float = 1.3, wall: float = 80.0
) -> np.ndarray:
    """Depth of a plane `camera` metres below and a wall ahead; degrees down and to the side, image widths."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    x, y = ((u + 0.5) / WIDTH - 0.5) / focal, ((v + 0.5) - HEIGHT / 2) / WIDTH / focal
    turn, tilt = np.radians(roll), np.radians(pitch)
    down = np.cos(tilt) * (x * np.sin(turn) + y * np.cos(turn)) + np.sin(tilt)
    ahead = np.cos(tilt) - np.sin(tilt) * (x * np.sin(turn) + y * np.cos(turn))
    ground = np.where(down > 0, camera / np.maximum(down, 1e-9), np.inf)
    facing = np.where(ahead > 0, wall / np.maximum(ahead, 1e-9), np.inf)
    return np.minimum(ground, facing).astype(np.float32)


@pytest.mark.parametrize(
    "camera",
    [
        *({"pitch": pitch} for pitch in (5, 10, 20)),
        *({"focal": focal} for focal in (0.4, 0.7, 1.5, 2.5)),
        *({"camera": height} for height in (0.5, 2.5)),
        {"roll": 2},
    ],
    ids=str,
)
def test_find_street__of_any_camera_that_drives(camera: dict[str, float]) -> None:
    depth = ray_cast(**camera)
    search = find_street(depth)
    assert search.plane is not None and search.reason == ""
    rows = slice(int(0.65 * HEIGHT), int(0.8 * HEIGHT))
    middle = search.plane.height(depth)[rows, WIDTH // 2 - 20 : WIDTH // 2 + 20]
    assert np.abs(middle).max() < 0.2, "the street ahead is at height 0"


@pytest.mark.parametrize(
    ("depth", "reason"),
    [
        (ray_cast(wall=4, camera=1.5), "does not fall"),
        (1 / ray_cast(), "does not fall"),
        (ray_cast()[::-1], "does not fall"),
        (ray_cast(roll=90), "does not fall"),
        (ray_cast(pitch=60, camera=100, wall=1e4), "horizon too high"),
        (ray_cast(pitch=40), "horizon too high"),
        (ray_cast(camera=15), "does not fall"),
        (ray_cast(roll=7), "horizon too low"),
        (ray_cast(roll=-7), "horizon too low"),
        (np.where(ray_cast() < 20, ray_cast(), np.nan), "no distances"),
        (ray_cast()[:8], "too few"),
    ],
    ids=[
        "room",
        "disparity",
        "upside down",
        "on its side",
        "aerial",
        "down",
        "tower",
        "right",
        "left",
        "nan",
        "flat",
    ],
)
def test_find_street__refuses_what_is_none(depth: np.ndarray, reason: str) -> None:
    search = find_street(depth)
    assert search.plane is None and reason in search.reason
    assert fit_ground(depth) is None


def test_find_street__refuses_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (HEIGHT, WIDTH))
    search = find_street((ray_cast() * np.exp(noise)).astype(np.float32))
    assert search.plane is None and "plane that fits best" in search.reason
    assert 0 < search.on < 0.3


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
