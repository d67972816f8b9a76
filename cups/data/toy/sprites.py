"""Flat figures with an outline: people, bicycles, signs and traffic lights, drawn afresh for each object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from cups.data.toy.render import Texture, make_texture
from cups.data.toy.textures import Color, pick

Point = tuple[float, float]


class Canvas:
    """A picture with a mask; coordinates are pixels, row 0 at the top."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.zeros((height, width, 3), np.float32)
        self.mask = np.zeros((height, width), np.uint8)

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon."""
        corners = np.round(np.asarray(points)).astype(np.int32)
        cv2.fillPoly(self.pixels, [corners], color)
        cv2.fillPoly(self.mask, [corners], 1)

    def limb(self, points: Sequence[Point], color: Color, thickness: int) -> None:
        """Draw a thick line with round joints."""
        corners = np.round(np.asarray(points)).astype(np.int32)
        cv2.polylines(self.pixels, [corners], False, color, thickness)
        cv2.polylines(self.mask, [corners], False, 1, thickness)

    def disc(self, center: Point, radii: Point, color: Color, span: tuple[float, float] = (0, 360)) -> None:
        """Fill an ellipse, or the part of it between two angles (degrees, clockwise from the right)."""
        middle, axes = (round(center[0]), round(center[1])), (round(radii[0]), round(radii[1]))
        cv2.ellipse(self.pixels, middle, axes, 0, *span, color, -1)
        cv2.ellipse(self.mask, middle, axes, 0, *span, 1, -1)

    def ring(self, center: Point, radius: float, color: Color, thickness: int) -> None:
        """Draw a circle."""
        middle = (round(center[0]), round(center[1]))
        cv2.circle(self.pixels, middle, round(radius), color, thickness)
        cv2.circle(self.mask, middle, round(radius), 1, thickness)

    def texture(self, side_light: float = 0.0) -> Texture:
        """Return the sprite; `side_light` -1 to 1 makes its left or its right side brighter."""
        ramp = 1 + side_light * np.linspace(-0.22, 0.22, self.mask.shape[1], dtype=np.float32)
        # Colour under the outline keeps bilinear lookups free of a dark fringe.
        return make_texture(np.dstack((self.pixels * ramp[None, :, None], self.mask.astype(np.float32))))


@dataclass(frozen=True)
class Clothes:
    """Colours of one person."""

    skin: Color
    hair: Color
    top: Color
    stripe: Color
    legs: Color
    shoes: Color
    bag: Color | None
    skirt: bool


_TOPS: tuple[Color, ...] = (
    (0.70, 0.18, 0.16),
    (0.18, 0.26, 0.48),
    (0.16, 0.17, 0.19),
    (0.82, 0.80, 0.76),
    (0.30, 0.46, 0.34),
    (0.82, 0.62, 0.20),
    (0.46, 0.30, 0.46),
    (0.55, 0.50, 0.44),
)
_LEGS: tuple[Color, ...] = ((0.16, 0.20, 0.32), (0.14, 0.14, 0.15), (0.36, 0.33, 0.28), (0.30, 0.36, 0.46))


def dress(rng: Generator) -> Clothes:
    """Choose clothes."""
    skin = ((0.86, 0.67, 0.55), (0.62, 0.44, 0.33), (0.42, 0.29, 0.21))[rng.integers(3)]
    hair = ((0.16, 0.12, 0.10), (0.40, 0.28, 0.16), (0.68, 0.56, 0.36), (0.6, 0.6, 0.6))[rng.integers(4)]
    top = pick(rng, _TOPS)
    stripe = pick(rng, _TOPS) if rng.random() < 0.3 else top
    legs = pick(rng, _LEGS, 0.03)
    bag = pick(rng, _TOPS) if rng.random() < 0.35 else None
    return Clothes(skin, hair, top, stripe, legs, (0.12, 0.11, 0.11), bag, bool(rng.random() < 0.2))


def _darker(color: Color, factor: float = 0.72) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


def _torso(canvas: Canvas, outline: Sequence[Point], clothes: Clothes) -> None:
    canvas.polygon(outline, clothes.top)
    if clothes.stripe is not clothes.top:
        inside = Canvas(canvas.mask.shape[1], canvas.mask.shape[0])
        inside.polygon(outline, clothes.stripe)
        rows = (np.arange(canvas.mask.shape[0]) // 9 % 2 == 0)[:, None]
        canvas.pixels[(inside.mask > 0) & rows] = clothes.stripe


def pedestrian(clothes: Clothes, phase: float, side_light: float) -> Texture:
    """A walking person, 128 x 256 for 0.9 x 1.8 m; `phase` (radians) moves arms and legs."""
    canvas, swing = Canvas(128, 256), float(np.sin(phase))
    for side, dark in ((-1, 0.7), (1, 1.0)):
        foot = (64 + side * (7 + 22 * swing * side), 246 - 5 * max(0.0, swing * side))
        knee = (64 + side * (9 + 9 * swing * side), 194)
        canvas.limb([(64 + side * 9, 142), knee, foot], _darker(clothes.legs, dark), 19)
        canvas.limb([(foot[0] - 5, 249), (foot[0] + 8, 249)], clothes.shoes, 11)
    if clothes.skirt:
        canvas.polygon([(46, 128), (82, 128), (94, 196), (34, 196)], _darker(clothes.top, 0.85))
    back = [(64 - 24, 64), (64 - 33, 100), (64 - 32 - 13 * swing, 138)]
    front = [(64 + 24, 64), (64 + 33, 100), (64 + 32 - 13 * swing, 138)]
    canvas.limb(back, _darker(clothes.top, 0.75), 15)
    _torso(canvas, [(38, 58), (52, 49), (76, 49), (90, 58), (85, 148), (43, 148)], clothes)
    canvas.limb(front, _darker(clothes.top, 0.88), 15)
    for x, _ in (back[-1], front[-1]):
        canvas.disc((x, 143), (7, 8), clothes.skin)
    if clothes.bag is not None:
        canvas.polygon([(82, 116), (108, 116), (110, 152), (80, 152)], clothes.bag)
        canvas.limb([(84, 118), (50, 54)], _darker(clothes.bag), 4)
    canvas.limb([(64, 42), (64, 50)], _darker(clothes.skin, 0.85), 14)
    canvas.disc((64, 26), (15, 19), clothes.skin)
    canvas.disc((64, 22), (17, 18), clothes.hair, (170, 370))
    return canvas.texture(side_light)


def _wheel(canvas: Canvas, center: Point, radius: int) -> None:
    canvas.disc(center, (radius, radius), (0.40, 0.40, 0.41))
    for angle in np.arange(0, 2 * np.pi, np.pi / 5):
        rim = (center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle))
        canvas.limb([center, rim], (0.62, 0.62, 0.63), 3)
    canvas.ring(center, radius - 4, (0.08, 0.08, 0.09), 9)
    canvas.disc(center, (7, 7), (0.15, 0.15, 0.15))


BICYCLE_SIZE = (1.8, 1.8)
"""Width and height in metres of the side views, the rider's included."""


def bicycle_side(color: Color, side_light: float = 0.0) -> Texture:
    """A bicycle from its side, riding to the right, in a square of 256."""
    canvas = Canvas(256, 256)
    back, front, pedals, saddle, head = (52, 204), (204, 204), (116, 204), (100, 136), (180, 132)
    _wheel(canvas, back, 49)
    _wheel(canvas, front, 49)
    canvas.limb([back, pedals, saddle, back], color, 10)
    canvas.limb([pedals, head, saddle], color, 10)
    canvas.limb([front, head, (174, 112), (192, 106)], _darker(color), 9)
    canvas.limb([(84, 128), (114, 126)], (0.10, 0.09, 0.09), 13)
    canvas.limb([(30, 148), (92, 146)], (0.25, 0.25, 0.25), 7)
    canvas.disc(pedals, (13, 13), (0.20, 0.20, 0.20))
    return canvas.texture(side_light)


def rider_side(clothes: Clothes, phase: float, side_light: float) -> Texture:
    """The person on `bicycle_side`, same square."""
    canvas = Canvas(256, 256)
    hip, shoulder = (100, 118), (132, 54)
    for offset, dark in ((np.pi, 0.7), (0.0, 1.0)):
        foot = (116 + 20 * np.cos(phase + offset), 204 + 20 * np.sin(phase + offset))
        knee = (150 + 8 * np.cos(phase + offset), 150 + 12 * np.sin(phase + offset))
        canvas.limb([hip, knee, foot], _darker(clothes.legs, dark), 20)
        canvas.limb([foot, (foot[0] + 12, foot[1] + 2)], clothes.shoes, 11)
    _torso(canvas, [(84, 124), (116, 44), (140, 46), (146, 66), (122, 128)], clothes)
    canvas.limb([shoulder, (150, 92), (184, 104)], _darker(clothes.top, 0.85), 14)
    canvas.disc((187, 105), (7, 7), clothes.skin)
    canvas.disc((142, 26), (15, 18), clothes.skin)
    canvas.disc((140, 21), (20, 17), clothes.bag or clothes.hair, (170, 372))
    return canvas.texture(side_light)


def bicycle_rear(color: Color) -> Texture:
    """A bicycle from behind: 128 x 256 for 0.9 x 1.8 m."""
    canvas = Canvas(128, 256)
    canvas.disc((64, 206), (9, 50), (0.10, 0.10, 0.11))
    canvas.limb([(64, 160), (64, 180)], color, 14)
    canvas.limb([(44, 152), (84, 152)], (0.22, 0.22, 0.22), 9)
    canvas.disc((64, 166), (7, 6), (0.85, 0.10, 0.08))
    canvas.limb([(30, 112), (98, 112)], _darker(color), 7)
    canvas.limb([(42, 212), (86, 208)], (0.2, 0.2, 0.2), 8)
    return canvas.texture()


def rider_rear(clothes: Clothes, phase: float, side_light: float) -> Texture:
    """The person on `bicycle_rear`, same canvas."""
    canvas, lift = Canvas(128, 256), float(np.sin(phase))
    for side in (-1, 1):
        knee, foot = (64 + side * 25, 164 - 12 * lift * side), (64 + side * 20, 214 - 12 * lift * side)
        canvas.limb([(64 + side * 12, 136), knee, foot], _darker(clothes.legs, 0.85 + 0.15 * side), 18)
        canvas.limb([(foot[0], foot[1] + 3), (foot[0] + side * 4, foot[1] + 3)], clothes.shoes, 11)
        canvas.limb(
            [(64 + side * 22, 60), (64 + side * 36, 88), (64 + side * 33, 112)], _darker(clothes.top, 0.8), 14
        )
    _torso(canvas, [(38, 56), (52, 46), (76, 46), (90, 56), (86, 142), (42, 142)], clothes)
    canvas.disc((64, 26), (15, 18), clothes.skin)
    canvas.disc((64, 22), (19, 18), clothes.bag or clothes.hair, (150, 390))
    return canvas.texture(side_light)


def traffic_light(state: int) -> Texture:
    """A dark box with three lamps, `state` 0-2 of them lit from the top: 64 x 128."""
    canvas = Canvas(64, 128)
    canvas.polygon([(0, 0), (63, 0), (63, 127), (0, 127)], (0.07, 0.08, 0.08))
    canvas.polygon([(0, 0), (63, 0), (63, 3), (0, 3)], (0.55, 0.55, 0.5))
    lamps: tuple[Color, ...] = ((0.98, 0.20, 0.14), (1.0, 0.72, 0.16), (0.25, 0.95, 0.55))
    for index, color in enumerate(lamps):
        center = (32, 23 + 41 * index)
        canvas.disc(center, (19, 19), (0.02, 0.02, 0.02))
        canvas.disc(center, (16, 16), color if index == state else _darker(color, 0.28))
    return canvas.texture()


def traffic_sign(kind: int) -> Texture:
    """One of six signs; the last is a board of 2:1, the rest are square."""
    red, blue, white = (0.80, 0.10, 0.12), (0.10, 0.28, 0.66), (0.94, 0.94, 0.92)
    canvas = Canvas(256 if kind == 5 else 128, 128)
    if kind == 0:
        canvas.disc((64, 64), (62, 62), red)
        canvas.disc((64, 64), (44, 44), white)
        canvas.limb([(46, 44), (46, 84)], (0.1, 0.1, 0.1), 9)
        canvas.ring((78, 64), 17, (0.1, 0.1, 0.1), 9)
    elif kind == 1:
        canvas.polygon([(64, 4), (126, 120), (2, 120)], red)
        canvas.polygon([(64, 38), (98, 102), (30, 102)], white)
        canvas.limb([(64, 60), (64, 84)], (0.1, 0.1, 0.1), 9)
    elif kind == 2:
        canvas.disc((64, 64), (62, 62), blue)
        canvas.limb([(64, 98), (64, 32)], white, 13)
        canvas.limb([(40, 54), (64, 30), (88, 54)], white, 13)
    elif kind == 3:
        canvas.polygon([(64, 2), (126, 64), (64, 126), (2, 64)], white)
        canvas.polygon([(64, 20), (108, 64), (64, 108), (20, 64)], (0.95, 0.74, 0.10))
    elif kind == 4:
        canvas.polygon([(4, 4), (124, 4), (124, 124), (4, 124)], blue)
        canvas.limb([(46, 104), (46, 26), (72, 26), (84, 46), (72, 64), (46, 64)], white, 14)
    else:
        canvas.polygon([(2, 2), (254, 2), (254, 126), (2, 126)], white)
        canvas.polygon([(8, 8), (248, 8), (248, 120), (8, 120)], (0.95, 0.78, 0.16))
        canvas.limb([(26, 38), (150, 38)], (0.1, 0.1, 0.1), 13)
        canvas.limb([(26, 86), (120, 86)], (0.1, 0.1, 0.1), 13)
        canvas.limb([(186, 64), (230, 64)], (0.1, 0.1, 0.1), 11)
        canvas.limb([(212, 44), (232, 64), (212, 84)], (0.1, 0.1, 0.1), 11)
    return canvas.texture()
