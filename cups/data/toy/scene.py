"""One sequence: a street, its traffic, a light and a camera drive, all drawn from one generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from cups.data.toy import objects, textures, vehicles
from cups.data.toy.objects import ID, KERB, Light, Pose, Thing, vec
from cups.data.toy.render import Camera, Frame, Quad, render
from cups.data.toy.street import LANE, Builder, Side, build_street

FOCAL = 0.95
"""Focal length in image widths: 55 degrees of view (Cityscapes: 1.1 widths, 49 degrees)."""
BASELINE = 0.22
"""Metres between the two cameras of the imagined stereo pair (Cityscapes: 0.21)."""
CAMERA_HEIGHT = 1.3
CAMERA_X = 1.6
SUPERSAMPLING = 2
HAZE = 420.0
"""Metres after which air takes 63 % of the contrast."""


@dataclass(frozen=True)
class Look:
    """The imagined sensor: exposure, colour balance (3 factors), contrast, blur and noise (deviations)."""

    exposure: float
    balance: tuple[float, float, float]
    contrast: float
    blur: float
    noise: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A sequence ready to be rendered.

    Attributes:
        floor, decals, solid: quads that stay.
        things: what has an instance number and may move.
        sky: (256, 1024, 3) panorama.
        step: metres that the camera drives in a frame.
    """

    floor: list[Quad]
    decals: list[Quad]
    solid: list[Quad]
    things: list[Thing]
    sky: np.ndarray
    look: Look
    step: float
    pitch: float
    yaw: float

    def camera(self, frame: int, height: int, width: int) -> Camera:
        """Return the camera of a frame."""
        focal, position = FOCAL * width, (CAMERA_X, CAMERA_HEIGHT, self.step * frame)
        center = ((width - 1) / 2, (height - 1) / 2)
        return Camera(height, width, focal, focal, *center, position, self.pitch, self.yaw)

    def quads(self, frame: int) -> list[Quad]:
        """Return everything at a frame in drawing order."""
        poses = [thing.at(frame) for thing in self.things]
        decals = [quad for pose in poses for quad in pose[0]]
        solid = [quad for pose in poses for quad in pose[1]]
        return [*self.floor, *self.decals, *decals, *self.solid, *solid]


def _light(rng: Generator) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(28, 60))
    flat = np.cos(elevation)
    direction = vec(flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth))
    warm = rng.uniform(0, 1)
    sun = np.array((1.0, 0.96 - 0.08 * warm, 0.90 - 0.2 * warm)) * rng.uniform(0.3, 0.62)
    ambient = np.array((0.93, 0.97, 1.03)) * rng.uniform(0.62, 0.74)
    return Light(direction, sun, ambient)


class _Traffic:
    """Places things without letting them touch, and numbers them per class."""

    def __init__(self, rng: Generator, light: Light, sides: tuple[Side, Side], step: float) -> None:
        self.rng, self.light, self.sides, self.step = rng, light, sides, step
        self.things: list[Thing] = []
        self._taken: list[tuple[float, float, float, float]] = []
        self._count: dict[str, int] = {}

    def number(self, label: str) -> int:
        """Return the next free number of a class."""
        self._count[label] = self._count.get(label, -1) + 1
        return self._count[label]

    def claim(self, x: float, z: float, width: float, length: float) -> bool:
        """Reserve a rectangle of street; False where something stands there already."""
        box = (x - width / 2, x + width / 2, z - length / 2, z + length / 2)
        if any(b[0] < box[1] and box[0] < b[1] and b[2] < box[3] and box[2] < b[3] for b in self._taken):
            return False
        self._taken.append(box)
        return True

    def add(self, place: np.ndarray, velocity: np.ndarray, pose: Callable[[np.ndarray, int], Pose]) -> None:
        """Add a thing."""
        self.things.append(Thing(place, velocity, pose))

    def drive(self, kind: str, x: float, z: float, heading: float, speed: float) -> bool:
        """Put a vehicle with its nearer end at `z`; `speed` metres a frame along its heading."""
        body = {"car": vehicles.car, "truck": vehicles.truck, "bus": vehicles.bus}[kind](self.rng)
        middle = z + body.length / 2
        travel = abs(speed) * 6
        if not self.claim(x, middle, body.width + 0.3, body.length + 1.2 + travel):
            return False
        pose = objects.vehicle(self.light, body, heading, kind, self.number(kind))
        self.add(vec(x, 0, middle), speed * vec(np.sin(heading), 0, np.cos(heading)), pose)
        return True


def _place_large(traffic: _Traffic, index: int) -> None:
    """Truck or bus in most sequences, both in every fifth; ahead, oncoming or at the kerb."""
    rng, right = traffic.rng, traffic.sides[1]
    kinds = (("truck", "bus"), ("bus",), ("truck",), (), ("truck",))[index % 5]
    spots = ["oncoming", "ahead", "kerb"]
    first = int(rng.integers(3))
    for offset, kind in enumerate(kinds):
        spot = spots[(first + offset) % 3]
        if spot == "ahead":
            traffic.drive(kind, CAMERA_X, rng.uniform(13, 19), 0.0, traffic.step)
        elif spot == "oncoming":
            traffic.drive(kind, -CAMERA_X - 0.1, rng.uniform(13, 20), np.pi, 0.25)
        else:
            x, speed = (right.kerb - 1.35, 0.0) if right.parking else (CAMERA_X, traffic.step)
            traffic.drive(kind, x, rng.uniform(12, 17), 0.0, speed)


def _place_cars(traffic: _Traffic) -> None:
    rng = traffic.rng
    for side in traffic.sides:
        z = rng.uniform(8, 12)
        while side.parking and z < 38:
            if rng.random() < 0.55:
                turned = np.pi if side.sign < 0 else 0.0
                traffic.drive("car", side.x(side.kerb - 1.05), z, turned + rng.uniform(-0.03, 0.03), 0.0)
            z += rng.uniform(5.4, 7.5)
    for z in (rng.uniform(9, 14), rng.uniform(24, 30)):
        if rng.random() < 0.75:
            traffic.drive("car", -CAMERA_X, z, np.pi, 0.3)
    for z in (rng.uniform(9, 14), rng.uniform(26, 34)):
        if rng.random() < 0.6:
            traffic.drive("car", CAMERA_X, z, 0.0, traffic.step * rng.uniform(0.95, 1.1))


def _place_cyclists(traffic: _Traffic, index: int) -> None:
    rng, light, (left, right) = traffic.rng, traffic.light, traffic.sides
    if index % 3 != 2:
        sideways = index % 2 == 0
        x = float(rng.uniform(-1.5, 1.0)) if sideways else LANE - 0.4
        z = float(rng.uniform(8, 11.5))
        # Room for five frames: across the street, or along it.
        ahead = 0.0 if sideways else 2.5
        if traffic.claim(
            x + (0.5 if sideways else 0.0), z + ahead, 2.8 if sideways else 0.8, 1.0 if sideways else 6.0
        ):
            pose = objects.cyclist(light, rng, sideways, (traffic.number("rider"), traffic.number("bicycle")))
            velocity = vec(0.2, 0, 0) if sideways else vec(0, 0, traffic.step * 0.9)
            traffic.add(vec(x, 0, z), velocity, pose)
    if index % 3 != 1:
        side = right if rng.random() < 0.65 else left
        z = float(rng.uniform(10, 14) if side is right else rng.uniform(15, 20))
        for _ in range(int(rng.integers(1, 4))):
            x = side.x(side.back - 1.05)
            if traffic.claim(x, z, 1.8, 0.6):
                pose = objects.parked_bicycle(light, rng, traffic.number("bicycle"))
                traffic.add(vec(x, KERB, z), vec(0, 0, 0), pose)
            z += float(rng.uniform(0.9, 1.6))


def _place_people(traffic: _Traffic) -> None:
    rng, light = traffic.rng, traffic.light
    spots: list[tuple[float, float, float]] = []
    for side in traffic.sides:
        near = 9.0 if side.sign > 0 else 14.0
        for _ in range(int(rng.integers(1, 4))):
            x, z = side.x(rng.uniform(side.front + 0.5, side.back - 0.4)), near + rng.gamma(1.6, 3.2)
            spots.append((x, KERB, z))
            if rng.random() < 0.35:
                spots.append((x + rng.choice((-0.65, 0.65)), KERB, z + rng.uniform(0.1, 0.4)))
    for _ in range(int(rng.integers(0, 3))):
        spots.append((rng.uniform(-2.6, 3.4), 0.0, rng.uniform(8.5, 15)))
    for x, y, z in spots:
        if not traffic.claim(x, z, 0.5, 0.3):
            continue
        slow = float(rng.choice((-1, 1)) * rng.uniform(0.05, 0.14))
        velocity = vec(slow, 0, 0) if y == 0.0 else vec(0, 0, slow)
        traffic.add(vec(x, y, z), velocity, objects.walker(light, rng, traffic.number("person")))


def _furnish(builder: Builder, sides: tuple[Side, Side], traffic: _Traffic) -> None:
    """Put lamps, lights, signs, street trees and a bin along the kerbs."""
    rng, light, quads = builder.rng, builder.light, builder.quads
    for side in sides:
        x, first = side.x(side.kerb + 0.45), 8.5 if side.sign > 0 else 15.0
        slots = list(first + np.cumsum(rng.uniform(3.0, 5.0, 9)))
        lamp, alight, board = (slots.pop(int(rng.integers(0, 3))) for _ in range(3))
        quads.add(objects.lamp_post(light, rng, x, KERB, lamp, -side.sign))
        quads.add(objects.light_post(light, rng, x, KERB, alight))
        quads.add(objects.sign_post(light, rng, x, KERB, board, int(rng.integers(0, 6))))
        quads.add(objects.sign_post(light, rng, x, KERB, slots[2], int(rng.integers(0, 5))))
        quads.add(objects.lamp_post(light, rng, x, KERB, slots[3] + 12, -side.sign))
        for z in slots[3:]:
            if rng.random() < 0.5:
                quads.add(
                    objects.tree(light, rng, builder.foliage, (x, KERB, z + 4), float(rng.uniform(4.5, 6.5)))
                )
        if rng.random() < 0.4:
            z = float(rng.uniform(first, first + 8))
            if traffic.claim(x, z, 0.7, 0.7):
                quads.add(objects.waste_bin(light, x, KERB, z))


def build_scene(rng: Generator, index: int, palette: np.ndarray) -> Scene:
    """Draw sequence `index`; `palette` chooses the facades of its city."""
    light = _light(rng)
    builder, sides = build_street(rng, light, index, palette)
    step = float(rng.uniform(0.4, 1.0))
    traffic = _Traffic(rng, light, sides, step)
    _place_large(traffic, index)
    _place_cyclists(traffic, index)
    _place_cars(traffic)
    _place_people(traffic)
    _furnish(builder, sides, traffic)
    look = Look(
        exposure=float(rng.uniform(0.95, 1.25)),
        balance=(float(rng.uniform(0.95, 1.05)), 1.0, float(rng.uniform(0.94, 1.06))),
        contrast=float(rng.uniform(0.95, 1.15)),
        blur=float(rng.uniform(0.0, 0.45)),
        noise=float(rng.uniform(0.006, 0.018)),
    )
    quads, pitch, yaw = builder.quads, float(rng.uniform(0.0, 0.03)), float(rng.uniform(-0.02, 0.02))
    return Scene(
        quads.floor, quads.decals, quads.solid, traffic.things, textures.sky(rng), look, step, pitch, yaw
    )


def _background(scene: Scene, camera: Camera) -> np.ndarray:
    """Look the sky up by direction, so that it stays where it is while the camera drives."""
    columns = (np.arange(camera.width) - camera.u0) / camera.fx
    rows = (np.arange(camera.height) - camera.v0) / camera.fy
    right, down, forward = camera.axes()
    rays = forward + columns[None, :, None] * right + rows[:, None, None] * down
    high, wide = scene.sky.shape[:2]
    elevation = rays[..., 1] / np.hypot(rays[..., 0], rays[..., 2])
    x = (np.arctan2(rays[..., 0], rays[..., 2]) / np.pi * 2 + 0.5) * wide
    y = np.clip((1 - elevation / 0.45) * (high - 1), 0, high - 1)
    return cv2.remap(
        scene.sky, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )


def _develop(color: np.ndarray, look: Look, rng: Generator) -> np.ndarray:
    """From light to an 8-bit photograph: vignette, balance, contrast, blur, noise."""
    height, width = color.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    color = color * (look.exposure * (1 - 0.10 * (x**2 + y**2)))[..., None] * look.balance
    color = (color - 0.45) * look.contrast + 0.45
    # A soft shoulder keeps white walls in the sun from clipping.
    color = np.where(color > 0.8, 0.8 + 0.2 * np.tanh((color - 0.8) / 0.2), color)
    sigma = look.blur * height / 192
    if sigma > 0.2:
        color = cv2.GaussianBlur(color, (0, 0), sigma)
    color = color + rng.standard_normal(color.shape) * look.noise * (
        0.6 + 0.8 * np.sqrt(np.clip(color, 0, 1))
    )
    return np.round(np.clip(color, 0, 1) * 255).astype(np.uint8)


def render_frame(
    scene: Scene, frame: int, height: int, width: int, rng: Generator
) -> tuple[np.ndarray, Frame, Camera]:
    """Render a frame.

    Returns:
        (H, W, 3) uint8 photograph; `Frame` with labels, instances and depth at the pixels' centres; camera.
    """
    camera, quads = scene.camera(frame, height, width), scene.quads(frame)
    exact = render(quads, camera, None, ID["sky"])
    fine = camera.scaled(SUPERSAMPLING)
    picture = render(quads, fine, _background(scene, fine), ID["sky"])
    air = np.where(np.isinf(picture.depth), 0, 1 - np.exp(-picture.depth / HAZE))[..., None]
    haze = scene.sky[-1].mean(axis=0)
    light = (picture.color * (1 - air) + haze * air).astype(np.float32)
    light = cv2.resize(light, (width, height), interpolation=cv2.INTER_AREA)
    return _develop(light, scene.look, rng), exact, camera
