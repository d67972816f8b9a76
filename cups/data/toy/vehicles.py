"""Cars, trucks and buses: textured faces around a body, with windows, wheels and lights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from cups.data.toy.render import Texture
from cups.data.toy.sprites import Canvas, Point
from cups.data.toy.textures import Color, pick

Vector = tuple[float, float, float]
_GLASS: Color = (0.15, 0.18, 0.21)
_SHEEN: Color = (0.42, 0.50, 0.57)
_DARK: Color = (0.07, 0.07, 0.08)
_FLOOR = 0.3
"""Metres between street and body."""


@dataclass(frozen=True, eq=False)
class Face:
    """A textured parallelogram in the body's axes: x to its right, y up, z forward; y = 0 is the street."""

    origin: Vector
    across: Vector
    up: Vector
    texture: Texture


@dataclass(frozen=True, eq=False)
class Body:
    """A vehicle; sizes in metres."""

    faces: tuple[Face, ...]
    width: float
    length: float


def _mix(a: Color, b: Color, share: float) -> Color:
    return tuple(x * (1 - share) + y * share for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _shade(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


class _Panel(Canvas):
    """A canvas measured in metres from its lower left corner."""

    def __init__(self, width: float, height: float, pixels: tuple[int, int]) -> None:
        super().__init__(*pixels)
        self._scale = np.array((pixels[0] / width, -pixels[1] / height))
        self._shift = np.array((0.0, pixels[1]))
        self.width, self.height = width, height

    def _at(self, points: Sequence[Point]) -> list[Point]:
        return [(float(x), float(y)) for x, y in np.asarray(points) * self._scale + self._shift]

    def area(self, points: Sequence[Point], color: Color) -> None:
        self.polygon(self._at(points), color)

    def box(self, left: float, bottom: float, right: float, top: float, color: Color) -> None:
        self.area([(left, bottom), (right, bottom), (right, top), (left, top)], color)

    def wheel(self, center: float, radius: float) -> None:
        """Draw a wheel that stands on the street."""
        scale = (float(self._scale[0]), float(-self._scale[1]))
        (middle,) = self._at([(center, radius)])
        for share, color in (
            (1.0, _DARK),
            (0.62, (0.55, 0.56, 0.58)),
            (0.40, (0.34, 0.34, 0.35)),
            (0.16, _DARK),
        ):
            self.disc(middle, (radius * share * scale[0], radius * share * scale[1]), color)

    def arch(self, center: float, radius: float) -> None:
        """Draw the dark space above a wheel."""
        scale = (float(self._scale[0]), float(-self._scale[1]))
        (middle,) = self._at([(center, radius)])
        self.disc(
            middle, (radius * 1.22 * scale[0], radius * 1.22 * scale[1]), _shade(_DARK, 0.6), (180, 360)
        )


def _lower_side(
    length: float, belt: float, nose: float, color: Color, hood: float, mirrored: bool
) -> Texture:
    """Side of a car below its windows; its front is on the right."""
    panel = _Panel(length, belt, (256, 64))
    body = [
        (0.03, _FLOOR),
        (0.0, belt - 0.12),
        (0.08, belt),
        (hood, belt),
        (length - 0.04, nose),
        (length, _FLOOR),
    ]
    panel.area(body, color)
    panel.area([(0.03, _FLOOR), (0.0, 0.45), (length, 0.45), (length, _FLOOR)], _shade(color, 0.62))
    panel.area(
        [(0.0, belt - 0.2), (length, nose - 0.16), (length, nose - 0.22), (0.0, belt - 0.27)],
        _shade(color, 1.18),
    )
    for door in (0.34, 0.52, 0.70):
        panel.box(length * door, 0.4, length * door + 0.03, belt, _shade(color, 0.5))
    for handle in (0.36, 0.54):
        panel.box(length * handle + 0.1, belt - 0.16, length * handle + 0.32, belt - 0.11, _shade(color, 0.4))
    panel.box(0.0, belt - 0.32, 0.16, belt - 0.1, (0.75, 0.08, 0.07))
    panel.box(length - 0.22, nose - 0.24, length - 0.04, nose - 0.08, (0.9, 0.9, 0.84))
    for center in (length * 0.19, length * 0.81):
        panel.arch(center, 0.32)
        panel.wheel(center, 0.32)
    return _flipped(panel) if mirrored else panel.texture()


def _flipped(panel: Canvas) -> Texture:
    panel.pixels = np.ascontiguousarray(panel.pixels[:, ::-1])
    panel.mask = np.ascontiguousarray(panel.mask[:, ::-1])
    return panel.texture()


def _lower_end(width: float, top: float, color: Color, rear: bool) -> Texture:
    """Front or rear of a car below its windows, wheels included."""
    panel = _Panel(width, top, (128, 64))
    for left in (0.06, width - 0.30):
        panel.box(left, 0.0, left + 0.24, _FLOOR + 0.1, _DARK)
    panel.box(0.0, _FLOOR - 0.05, width, top, color)
    panel.box(0.0, _FLOOR - 0.05, width, 0.48, _shade(color, 0.55))
    if rear:
        for left in (0.05, width - 0.35):
            panel.box(left, top - 0.32, left + 0.3, top - 0.08, (0.78, 0.07, 0.06))
            panel.box(left + 0.06, top - 0.22, left + 0.24, top - 0.14, (0.95, 0.45, 0.25))
        panel.box(0.0, top - 0.04, width, top, _shade(color, 1.2))
    else:
        panel.box(width * 0.25, top - 0.30, width * 0.75, top - 0.12, _DARK)
        for left in (0.05, width - 0.42):
            panel.box(left, top - 0.30, left + 0.37, top - 0.10, (0.93, 0.93, 0.88))
    panel.box(width / 2 - 0.26, 0.46, width / 2 + 0.26, 0.58, (0.92, 0.92, 0.86))
    return panel.texture()


def _window(
    base: float, height: float, insets: tuple[float, float], color: Color, posts: tuple[float, ...]
) -> Texture:
    """A pane in a frame; `insets`: how far its top is narrower on the left and on the right."""
    panel = _Panel(base, height, (128, 64))
    left, right = insets
    panel.area([(0, 0), (base, 0), (base - right, height), (left, height)], color)
    edge, rim = 0.07, 0.05
    slope_l, slope_r = left / height, right / height
    low, middle, high = rim, 0.55 * height, height - rim
    for bottom, top, tone in ((low, middle, _GLASS), (middle, high, _mix(_GLASS, _SHEEN, 0.8))):
        panel.area(
            [
                (edge + slope_l * bottom, bottom),
                (base - edge - slope_r * bottom, bottom),
                (base - edge - slope_r * top, top),
                (edge + slope_l * top, top),
            ],
            tone,
        )
    for post in posts:
        panel.box(base * post - 0.04, 0, base * post + 0.04, height, _shade(color, 0.8))
    return panel.texture()


def _paint(color: Color) -> Texture:
    panel = _Panel(1.0, 1.0, (32, 32))
    panel.box(0, 0, 1, 1, color)
    panel.box(0.1, 0.1, 0.9, 0.9, _shade(color, 1.12))
    return panel.texture()


CAR_PAINTS: tuple[Color, ...] = (
    (0.68, 0.10, 0.10),
    (0.14, 0.22, 0.42),
    (0.74, 0.75, 0.77),
    (0.10, 0.11, 0.12),
    (0.88, 0.88, 0.87),
    (0.40, 0.42, 0.45),
    (0.20, 0.36, 0.30),
    (0.80, 0.66, 0.22),
    (0.30, 0.48, 0.66),
)


def car(rng: Generator) -> Body:
    """A saloon, hatchback or estate."""
    color = pick(rng, CAR_PAINTS, 0.03)
    width, length = float(rng.uniform(1.75, 1.9)), float(rng.uniform(3.9, 4.7))
    belt, nose, top = 0.98, 0.80, float(rng.uniform(1.46, 1.62))
    saloon = bool(rng.random() < 0.45)
    half, end = width / 2, length / 2
    back, front = (-end + 0.75 if saloon else -end + 0.06), end - 1.05
    roof_back, roof_front = back + (0.55 if saloon else 0.28), front - 0.75
    inset, rise = 0.17, top - belt
    cabin, hood = front - back, front + end
    side = (roof_back - back, front - roof_front)
    right_side = _lower_side(length, belt, nose, color, hood, False)
    left_side = _lower_side(length, belt, nose, color, hood, True)
    paint = _paint(color)
    faces = (
        Face((half, 0, -end), (0, 0, length), (0, belt, 0), right_side),
        Face((-half, 0, end), (0, 0, -length), (0, belt, 0), left_side),
        Face((-half, 0, -end), (width, 0, 0), (0, belt, 0), _lower_end(width, belt, color, True)),
        Face((half, 0, end), (-width, 0, 0), (0, nose, 0), _lower_end(width, nose, color, False)),
        Face((-half, belt, -end), (width, 0, 0), (0, 0, hood), paint),
        Face((half, nose, end), (-width, 0, 0), (0, belt - nose, front - end), paint),
        Face((half, belt, back), (0, 0, cabin), (-inset, rise, 0), _window(cabin, rise, side, color, (0.5,))),
        Face(
            (-half, belt, front),
            (0, 0, -cabin),
            (inset, rise, 0),
            _window(cabin, rise, side[::-1], color, (0.5,)),
        ),
        Face(
            (-half, belt, back),
            (width, 0, 0),
            (0, rise, side[0]),
            _window(width, rise, (inset, inset), color, ()),
        ),
        Face(
            (half, belt, front),
            (-width, 0, 0),
            (0, rise, -side[1]),
            _window(width, rise, (inset, inset), color, ()),
        ),
        Face(
            (inset - half, top, roof_back), (width - 2 * inset, 0, 0), (0, 0, roof_front - roof_back), paint
        ),
    )
    return Body(faces, width, length)


def _box_faces(size: Vector, floor: float, center: float, textures: Sequence[Texture]) -> tuple[Face, ...]:
    """A box of (width, height, length) at z = `center`; textures: right, left, rear, front, top."""
    width, height, length = size
    half, low, high = width / 2, center - length / 2, center + length / 2
    right, left, rear, front, top = textures
    return (
        Face((half, floor, low), (0, 0, length), (0, height, 0), right),
        Face((-half, floor, high), (0, 0, -length), (0, height, 0), left),
        Face((-half, floor, low), (width, 0, 0), (0, height, 0), rear),
        Face((half, floor, high), (-width, 0, 0), (0, height, 0), front),
        Face((-half, floor + height, low), (width, 0, 0), (0, 0, length), top),
    )


def _cargo(rng: Generator, width: float, height: float, color: Color, badge: Color, doors: bool) -> Texture:
    """Ribbed wall of a cargo box: close upright lines, and a coloured field."""
    panel = _Panel(width, height, (256 if not doors else 128, 128))
    panel.box(0, 0, width, height, color)
    for rib in np.arange(0.1, width, 0.3):
        panel.box(float(rib), 0.1, float(rib) + 0.13, height - 0.1, _shade(color, 0.76))
    panel.box(0, 0, width, 0.12, _shade(color, 0.5))
    if doors:
        panel.box(width / 2 - 0.03, 0, width / 2 + 0.03, height, _shade(color, 0.4))
        for x in (width * 0.4, width * 0.6):
            panel.box(x - 0.03, 0.1, x + 0.03, height - 0.1, (0.55, 0.55, 0.55))
        return panel.texture()
    middle = width * float(rng.uniform(0.4, 0.6))
    panel.area([(middle - 1.3, 0.8), (middle + 1.1, 0.8), (middle + 1.4, 1.6), (middle - 1.0, 1.6)], badge)
    return panel.texture()


def _chassis(length: float, wheels: Sequence[float], mirrored: bool) -> Texture:
    panel = _Panel(length, 1.0, (256, 32))
    panel.box(0, 0.55, length, 1.0, (0.16, 0.16, 0.17))
    panel.box(length * 0.34, 0.35, length * 0.6, 0.8, (0.30, 0.30, 0.31))
    for center in wheels:
        panel.wheel(center, 0.5)
    return _flipped(panel) if mirrored else panel.texture()


def _truck_end(width: float, rear: bool) -> Texture:
    panel = _Panel(width, 1.0, (64, 32))
    for left in (0.05, width - 0.6):
        panel.box(left, 0.0, left + 0.55, 0.7, _DARK)
    panel.box(0, 0.45, width, 1.0, (0.17, 0.17, 0.18))
    lamp: Color = (0.85, 0.10, 0.08) if rear else (0.93, 0.93, 0.86)
    for left in (0.1, width - 0.5):
        panel.box(left, 0.6, left + 0.4, 0.85, lamp)
    panel.box(width / 2 - 0.3, 0.55, width / 2 + 0.3, 0.75, (0.9, 0.9, 0.84))
    return panel.texture()


def _cab(width: float, height: float, color: Color, kind: str, mirrored: bool = False) -> Texture:
    panel = _Panel(width, height, (128, 128))
    panel.box(0, 0, width, height, color)
    panel.box(0, 0, width, 0.25, _shade(color, 0.6))
    if kind == "front":
        panel.box(0.12, height * 0.46, width - 0.12, height - 0.28, _GLASS)
        panel.box(0.12, height * 0.7, width - 0.12, height - 0.28, _mix(_GLASS, _SHEEN, 0.7))
        for row in (0.16, 0.25, 0.34):
            panel.box(0.4, height * row, width - 0.4, height * row + 0.09, _DARK)
    elif kind == "side":
        panel.box(width * 0.38, height * 0.5, width - 0.12, height - 0.3, _GLASS)
        panel.box(width * 0.38, height * 0.7, width - 0.12, height - 0.3, _mix(_GLASS, _SHEEN, 0.7))
        panel.box(width * 0.3, 0.1, width * 0.3 + 0.05, height - 0.1, _shade(color, 0.55))
    return _flipped(panel) if mirrored else panel.texture()


def truck(rng: Generator) -> Body:
    """A lorry: a cab, a ribbed cargo box, a dark chassis."""
    paints: tuple[Color, ...] = (
        (0.80, 0.80, 0.78),
        (0.30, 0.42, 0.58),
        (0.62, 0.30, 0.22),
        (0.72, 0.64, 0.40),
    )
    color = pick(rng, paints)
    badge = pick(rng, CAR_PAINTS)
    cab_color = pick(rng, CAR_PAINTS)
    width, length, load = 2.45, 7.6, 5.3
    height = float(rng.uniform(2.3, 2.6))
    side, doors = (
        _cargo(rng, load, height, color, badge, False),
        _cargo(rng, width, height, color, badge, True),
    )
    cargo = _box_faces(
        (width, height, load), 1.0, -length / 2 + load / 2, (side, side, doors, doors, _paint(color))
    )
    cab_right, cab_end = _cab(2.0, 2.0, cab_color, "side"), _cab(2.3, 2.0, cab_color, "front")
    back = _cab(2.3, 2.0, cab_color, "back")
    cab_left = _cab(2.0, 2.0, cab_color, "side", mirrored=True)
    cab = _box_faces((2.3, 2.0, 2.0), 0.75, length / 2 - 1.0, (cab_right, cab_left, back, cab_end, back))
    wheels = (1.2, 2.3, length - 1.0)
    right, left = _chassis(length, wheels, False), _chassis(length, wheels, True)
    ends = (_truck_end(width, True), _truck_end(width, False))
    chassis = _box_faces((2.35, 1.0, length), 0.0, 0.0, (right, left, *ends, _paint((0.16, 0.16, 0.17))))
    return Body((*cargo, *cab, *chassis), width, length)


def _bus_side(length: float, height: float, color: Color, stripe: Color, mirrored: bool) -> Texture:
    panel = _Panel(length, height, (512, 128))
    panel.box(0.0, _FLOOR, length, height, color)
    panel.box(0.0, _FLOOR, length, 0.62, _shade(color, 0.55))
    panel.box(0.0, 0.85, length, 1.15, stripe)
    panel.box(0.2, 1.35, length - 0.1, height - 0.5, _GLASS)
    panel.box(0.2, 1.95, length - 0.1, height - 0.5, _mix(_GLASS, _SHEEN, 0.7))
    for post in np.arange(1.5, length - 0.5, 1.4):
        panel.box(float(post), 1.3, float(post) + 0.12, height - 0.45, _shade(color, 0.7))
    panel.box(0.0, height - 0.06, length, height, _shade(color, 1.15))
    if not mirrored:
        for door in (length - 1.4, length * 0.46):
            panel.box(door - 0.05, 0.4, door + 1.15, height - 0.45, _DARK)
            for left in (door + 0.03, door + 0.6):
                panel.box(left, 0.55, left + 0.47, height - 0.6, (0.28, 0.33, 0.37))
    for center in (2.2, length - 2.5):
        panel.arch(center, 0.48)
        panel.wheel(center, 0.48)
    return _flipped(panel) if mirrored else panel.texture()


def _bus_end(width: float, height: float, color: Color, stripe: Color, rear: bool) -> Texture:
    panel = _Panel(width, height, (128, 128))
    for left in (0.08, width - 0.48):
        panel.box(left, 0.0, left + 0.4, 0.6, _DARK)
    panel.box(0.0, _FLOOR, width, height, color)
    panel.box(0.0, _FLOOR, width, 0.6, _shade(color, 0.5))
    panel.box(0.0, 0.85, width, 1.15, stripe)
    low = 1.9 if rear else 1.25
    panel.box(0.14, low, width - 0.14, height - 0.55, _GLASS)
    panel.box(0.14, (low + height) / 2, width - 0.14, height - 0.55, _mix(_GLASS, _SHEEN, 0.7))
    panel.box(width * 0.2, height - 0.45, width * 0.8, height - 0.12, _DARK)
    panel.box(width * 0.26, height - 0.38, width * 0.7, height - 0.2, (1.0, 0.66, 0.15))
    lamp: Color = (0.85, 0.10, 0.08) if rear else (0.95, 0.95, 0.88)
    for left in (0.1, width - 0.45):
        panel.box(left, 0.66, left + 0.35, 0.95, lamp)
    if rear:
        for row in (1.3, 1.45, 1.6):
            panel.box(0.5, row, width - 0.5, row + 0.07, _shade(color, 0.5))
    panel.box(width / 2 - 0.28, 0.62, width / 2 + 0.28, 0.76, (0.92, 0.92, 0.86))
    return panel.texture()


def bus(rng: Generator) -> Body:
    """A city bus: a long band of windows, doors on its right, a lit destination."""
    paints: tuple[Color, ...] = (
        (0.82, 0.66, 0.16),
        (0.78, 0.20, 0.18),
        (0.86, 0.86, 0.84),
        (0.26, 0.46, 0.56),
    )
    color = pick(rng, paints)
    stripe = pick(rng, CAR_PAINTS)
    width, height, length = 2.5, float(rng.uniform(3.0, 3.25)), float(rng.uniform(9.0, 11.0))
    textures = (
        _bus_side(length, height, color, stripe, False),
        _bus_side(length, height, color, stripe, True),
        _bus_end(width, height, color, stripe, True),
        _bus_end(width, height, color, stripe, False),
        _paint(_shade(color, 0.95)),
    )
    return Body(_box_faces((width, height, length), 0.0, 0.0, textures), width, length)
