"""From models to quads: light, vehicles, figures, trees and street furniture placed in the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from cups.data.toy import sprites, textures
from cups.data.toy.render import Quad, Texture, cross
from cups.data.toy.vehicles import Body
from cups.taxonomy import label_ids

ID = label_ids()
Point3 = tuple[float, float, float]
Place = Point3 | np.ndarray
UP = np.array((0.0, 1.0, 0.0))
KERB = 0.12
"""Metres from the street up to the sidewalk."""


@dataclass(frozen=True, eq=False)
class Light:
    """Sun and sky: `direction` (3,) unit vector towards the sun; `sun` and `ambient` (3,) colours."""

    direction: np.ndarray
    sun: np.ndarray
    ambient: np.ndarray

    def on(self, outward: np.ndarray) -> np.ndarray:
        """Return (3,) factors for a surface with this outward direction (any length)."""
        cosine = float(outward @ self.direction) / float(np.linalg.norm(outward))
        return self.ambient + self.sun * max(0.0, cosine)

    @property
    def side(self) -> float:
        """-1 to 1: whether the sun stands on the left or on the right."""
        return float(self.direction[0])


def vec(x: float, y: float, z: float) -> np.ndarray:
    """Return a float64 vector."""
    return np.array((x, y, z), dtype=np.float64)


def lit(
    light: Light,
    origin: np.ndarray,
    across: np.ndarray,
    up: np.ndarray,
    texture: Texture,
    label: str,
    instance: int = -1,
    tint: float | np.ndarray = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Quad:
    """Return a quad shaded by its orientation (its front is where `across` runs to the right)."""
    shade = light.on(-cross(across, up)) * tint
    return Quad(origin, across, up, texture, ID[label], instance, shade, shift)


def ground(
    light: Light, x: tuple[float, float], z: tuple[float, float], y: float, texture: Texture, label: str
) -> Quad:
    """Return a level rectangle, its texture anchored in the world."""
    origin, across, up = vec(x[0], y, z[0]), vec(x[1] - x[0], 0, 0), vec(0, 0, z[1] - z[0])
    return Quad(origin, across, up, texture, ID[label], -1, light.on(UP), (x[0], z[0]))


def decal(
    x: tuple[float, float], z: tuple[float, float], y: float, texture: Texture, tint: float = 1.0
) -> Quad:
    """Return paint or shade on a level surface of height `y`."""
    return Quad(
        vec(x[0], y, z[0]),
        vec(x[1] - x[0], 0, 0),
        vec(0, 0, z[1] - z[0]),
        texture,
        tint=(tint, tint, tint),
        decal=True,
    )


def upright(
    light: Light,
    foot: Place,
    size: tuple[float, float],
    texture: Texture,
    label: str,
    instance: int = -1,
    tint: float = 1.0,
) -> Quad:
    """Return a billboard that faces the driver; `foot`: middle of its lower edge; `size`: width, height."""
    origin = vec(foot[0] - size[0] / 2, foot[1], foot[2])
    facing = np.array((0.35 * light.side, 0.45, -1.0))
    across, up = vec(size[0], 0, 0), vec(0, size[1], 0)
    return Quad(origin, across, up, texture, ID[label], instance, light.on(facing) * tint)


def cast_shadow(light: Light, foot: Place, width: float, height: float) -> list[Quad]:
    """Return a contact shadow and the stretched one that the sun throws."""
    x, y, z = foot
    away = -light.direction * np.array((1, 0, 1)) / max(0.3, float(light.direction[1])) * height * 0.7
    reach = float(np.hypot(away[0], away[2]))
    across = np.array((away[2], 0, -away[0])) / max(reach, 1e-6) * width * 0.8
    long = Quad(vec(x, y, z) - across / 2, across, away, textures.soft_box(), decal=True)
    spot = decal((x - width * 0.75, x + width * 0.75), (z - 0.4, z + 0.4), y, textures.soft_spot())
    return [long, spot] if reach > 0.2 else [spot]


Pose = tuple[list[Quad], list[Quad]]
"""Decals and quads of an object at one moment."""


@dataclass(frozen=True, eq=False)
class Thing:
    """Something that may move.

    Attributes:
        place: (3,) foot at frame 0.
        velocity: (3,) metres a frame.
        pose: gives the quads for a place and a frame number.
    """

    place: np.ndarray
    velocity: np.ndarray
    pose: Callable[[np.ndarray, int], Pose]

    def at(self, frame: int) -> Pose:
        """Return decals and quads at a frame."""
        return self.pose(self.place + self.velocity * frame, frame)


def vehicle(
    light: Light, body: Body, heading: float, label: str, instance: int
) -> Callable[[np.ndarray, int], Pose]:
    """Return the pose function of a body; `heading` in radians, 0 = away from the driver."""
    ahead = vec(np.sin(heading), 0, np.cos(heading))
    right = vec(np.cos(heading), 0, -np.sin(heading))
    turn = np.stack((right, UP, ahead))

    def pose(place: np.ndarray, _: int) -> Pose:
        quads = [
            lit(
                light,
                place + face.origin @ turn,
                face.across @ turn,
                face.up @ turn,
                face.texture,
                label,
                instance,
            )
            for face in body.faces
        ]
        across, along = right * (body.width + 0.9), ahead * (body.length + 0.9)
        origin = place - across / 2 - along / 2
        lean = -light.direction * np.array((1, 0, 1)) * 0.9
        shade = [
            Quad(origin + shift, across, along, textures.soft_box(), decal=True) for shift in (lean, 0 * lean)
        ]
        return shade, quads

    return pose


def walker(light: Light, rng: Generator, instance: int) -> Callable[[np.ndarray, int], Pose]:
    """Return the pose function of a pedestrian."""
    clothes, start = sprites.dress(rng), float(rng.uniform(0, 6.28))
    height = float(rng.uniform(1.6, 1.92))

    def pose(place: np.ndarray, frame: int) -> Pose:
        texture = sprites.pedestrian(clothes, start + 0.7 * frame, light.side)
        size = (height * 0.5, height)
        body = upright(light, place, size, texture, "person", instance=instance)
        return cast_shadow(light, place, 0.55, height), [body]

    return pose


def _frame_color(rng: Generator) -> textures.Color:
    return textures.jitter(
        rng, ((0.65, 0.12, 0.1), (0.1, 0.3, 0.5), (0.15, 0.15, 0.15), (0.75, 0.7, 0.3))[rng.integers(4)]
    )


def cyclist(
    light: Light, rng: Generator, sideways: bool, numbers: tuple[int, int]
) -> Callable[[np.ndarray, int], Pose]:
    """Return the pose function of a rider (first number) on a bicycle (second), seen aside or from behind."""
    clothes, color, start = sprites.dress(rng), _frame_color(rng), float(rng.uniform(0, 6.28))
    size = sprites.BICYCLE_SIZE if sideways else (0.95, 1.9)

    def pose(place: np.ndarray, frame: int) -> Pose:
        person = (sprites.rider_side if sideways else sprites.rider_rear)(clothes, start + frame, light.side)
        bike = sprites.bicycle_side(color, light.side) if sideways else sprites.bicycle_rear(color)
        x, y, z = place
        quads = [
            upright(light, (x, y, z - 0.1), size, person, "rider", instance=numbers[0]),
            upright(light, (x, y, z), size, bike, "bicycle", instance=numbers[1]),
        ]
        return cast_shadow(light, (x, y, z), size[0] * 0.7, 1.5), quads

    return pose


def parked_bicycle(light: Light, rng: Generator, instance: int) -> Callable[[np.ndarray, int], Pose]:
    """Return the pose function of a bicycle that leans on its stand."""
    texture, size = sprites.bicycle_side(_frame_color(rng), light.side), sprites.BICYCLE_SIZE

    def pose(place: np.ndarray, _: int) -> Pose:
        bike = upright(light, place, size, texture, "bicycle", instance=instance)
        return cast_shadow(light, place, 1.5, 0.7), [bike]

    return pose


@dataclass(frozen=True, eq=False)
class Foliage:
    """What the trees and bushes of a sequence share: bark, and pairs of crowns of the same hue."""

    bark: Texture
    crowns: list[tuple[Texture, Texture]]

    @staticmethod
    def draw(rng: Generator) -> Foliage:
        """Draw three kinds of tree."""
        hues = rng.uniform(-0.4, 0.8, 3)
        crowns = [(textures.crown(rng, float(hue)), textures.crown(rng, float(hue))) for hue in hues]
        return Foliage(textures.bark(rng), crowns)


def tree(light: Light, rng: Generator, foliage: Foliage, foot: Point3, height: float) -> Pose:
    """Return a tree: a trunk and overlapping balls of leaves, all vegetation."""
    (x, y, z), trunk = foot, height * float(rng.uniform(0.32, 0.42))
    quads = [upright(light, (x, y, z), (0.07 * height, trunk + 0.6), foliage.bark, "vegetation")]
    looks = foliage.crowns[rng.integers(len(foliage.crowns))]
    reach = height - trunk
    for index in range(6):
        size = reach * float(rng.uniform(0.55, 0.8))
        offset = rng.uniform((-0.32, 0.0, -0.3), (0.32, 0.42, 0.3)) * reach
        middle = (x + offset[0], y + trunk * 0.85 + offset[1], z + offset[2])
        tint = float(rng.uniform(0.85, 1.12)) + 0.1 * light.side * offset[0] / reach
        quads.append(upright(light, middle, (size * 1.15, size), looks[index % 2], "vegetation", tint=tint))
    return cast_shadow(light, (x, y, z), 0.5 * height, 0.8 * height), quads


def bush(light: Light, rng: Generator, foliage: Foliage, foot: Point3, size: float) -> Pose:
    """Return a bush of three balls."""
    (x, y, z), look = foot, foliage.crowns[rng.integers(len(foliage.crowns))][0]
    quads = []
    for _ in range(3):
        offset = rng.uniform((-0.5, -0.25, -0.3), (0.5, 0.0, 0.3)) * size
        wide = size * float(rng.uniform(0.9, 1.3))
        middle = (x + offset[0], y + offset[1], z + offset[2])
        quads.append(
            upright(light, middle, (wide, size), look, "vegetation", tint=float(rng.uniform(0.85, 1.1)))
        )
    return cast_shadow(light, (x, y, z), size * 1.4, size * 0.7), quads


def lamp_post(light: Light, rng: Generator, x: float, y: float, z: float, towards: float) -> Pose:
    """Return a street lamp; its arm points to `towards` (-1 left, 1 right)."""
    metal, height = textures.metal_post(rng), float(rng.uniform(5.5, 7.5))
    arm = 1.6
    quads = [
        upright(light, (x, y, z), (0.26, height), metal, "pole"),
        upright(light, (x, y, z), (0.36, 0.9), metal, "pole", tint=0.85),
        upright(light, (x + towards * arm / 2, y + height - 0.2, z), (arm, 0.16), metal, "pole"),
        upright(light, (x + towards * arm, y + height - 0.32, z), (0.7, 0.2), metal, "pole", tint=1.3),
    ]
    return cast_shadow(light, (x, y, z), 0.4, height * 0.8), quads


def light_post(light: Light, rng: Generator, x: float, y: float, z: float) -> Pose:
    """Return a post with one or two traffic lights."""
    metal, state = textures.metal_post(rng), int(rng.integers(3))
    quads = [upright(light, (x, y, z), (0.22, 3.9), metal, "pole")]
    look = sprites.traffic_light(state)
    quads.append(upright(light, (x, y + 2.5, z - 0.12), (0.62, 1.35), look, "traffic light"))
    return cast_shadow(light, (x, y, z), 0.4, 3.0), quads


def sign_post(light: Light, rng: Generator, x: float, y: float, z: float, kind: int) -> Pose:
    """Return a post with one or two signs; kind 5 is a wide board on two posts."""
    metal = textures.metal_post(rng)
    look, facing = sprites.traffic_sign(kind), z - 0.1
    if kind == 5:
        quads = [upright(light, (x + dx, y, z), (0.18, 3.2), metal, "pole") for dx in (-0.75, 0.75)]
        quads.append(upright(light, (x, y + 2.0, facing), (2.3, 1.15), look, "traffic sign"))
        return cast_shadow(light, (x, y, z), 1.6, 2.0), quads
    quads = [upright(light, (x, y, z), (0.16, 3.3), metal, "pole")]
    quads.append(upright(light, (x, y + 2.3, facing), (1.05, 1.05), look, "traffic sign"))
    if rng.random() < 0.3:
        other = sprites.traffic_sign((kind + 1) % 5)
        quads.append(upright(light, (x, y + 1.35, facing), (0.85, 0.85), other, "traffic sign"))
    return cast_shadow(light, (x, y, z), 0.4, 2.5), quads


def waste_bin(light: Light, x: float, y: float, z: float) -> Pose:
    """Return a bin (label `static`)."""
    color = np.array((0.30, 0.42, 0.34))
    front, side = vec(0.55, 0, 0), vec(0, 0, 0.55)
    corner, high, plain = vec(x - 0.27, y, z), vec(0, 0.95, 0), textures.plain()
    quads = [
        lit(light, corner, front, high, plain, "static", tint=color),
        lit(light, corner + side, -side, high, plain, "static", tint=color),
        lit(light, corner + front, side, high, plain, "static", tint=color),
        lit(light, corner + high, front, side, plain, "static", tint=1.2 * color),
    ]
    return cast_shadow(light, (x, y, z + 0.27), 0.7, 0.9), quads
