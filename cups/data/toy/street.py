"""The fixed part of a scene: street, sidewalks, and what lines them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from cups.data.toy import objects, textures
from cups.data.toy.objects import KERB, UP, Light, Pose, decal, ground, lit, vec
from cups.data.toy.render import Quad, Texture

START, END = -6.0, 112.0
"""Metres along the street where it begins (behind the first camera) and where a row of houses closes it."""
LANE = 3.2


@dataclass(eq=False)
class Quads:
    """What a scene is made of, in drawing order."""

    floor: list[Quad] = field(default_factory=list)
    decals: list[Quad] = field(default_factory=list)
    solid: list[Quad] = field(default_factory=list)

    def add(self, pose: Pose) -> None:
        """Add an object's decals and quads."""
        self.decals.extend(pose[0])
        self.solid.extend(pose[1])


@dataclass(frozen=True)
class Side:
    """One side of the street: sign (-1 left, 1 right); distances of kerb and sidewalk from x = 0.

    Between kerb and `front` lies a grass verge (none where they are equal).
    """

    sign: int
    kerb: float
    front: float
    back: float
    parking: bool

    def x(self, distance: float) -> float:
        """Return the world x of a distance from the middle of the street."""
        return self.sign * distance

    def span(self, near: float, far: float) -> tuple[float, float]:
        """Return the rising x interval between two distances."""
        return min(self.x(near), self.x(far)), max(self.x(near), self.x(far))

    def row(self, distance: float, z: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Return origin and `across` of an upright face along the street that looks at it."""
        length = z[1] - z[0]
        if self.sign > 0:
            return vec(self.x(distance), 0, z[1]), vec(0, 0, -length)
        return vec(self.x(distance), 0, z[0]), vec(0, 0, length)


def make_side(rng: Generator, sign: int, parking: bool) -> Side:
    """Draw the cross-section of one side."""
    kerb = LANE + (2.2 if parking else float(rng.uniform(0.2, 0.8)))
    front = kerb if parking else kerb + float(rng.uniform(1.5, 2.4))
    return Side(sign, kerb, front, front + float(rng.uniform(2.0, 2.8)), parking)


class Builder:
    """Adds the parts of a street to `quads`, with the materials of one sequence."""

    def __init__(self, rng: Generator, light: Light, palette: np.ndarray) -> None:
        self.rng, self.light, self.quads = rng, light, Quads()
        self.palette = [textures.FACADES[index] for index in palette]
        self.road, self.slabs = textures.asphalt(rng), textures.slabs(rng)
        self.grass, self.leaves = textures.grass(rng), textures.leaves(rng, float(rng.uniform(-0.3, 0.6)))
        self.roof, self.bricks, self.planks = textures.roof(rng), textures.bricks(rng), textures.planks(rng)
        self.cobbles, self.foliage = textures.cobbles(rng), objects.Foliage.draw(rng)

    def lay_ground(self, sides: tuple[Side, Side], gaps: list[tuple[Side, tuple[float, float]]]) -> None:
        """Lay grass everywhere, the street, its parking lanes, and the sidewalks between the side streets."""
        floor, light = self.quads.floor, self.light
        floor.append(ground(light, (-160, 160), (START, 400), -0.03, self.grass, "terrain"))
        left, right = sides
        floor.append(ground(light, (-left.kerb, right.kerb), (START, END), 0.0, self.road, "road"))
        stones = self.rng.random() < 0.3
        for side in sides:
            if side.parking and stones:
                lane = side.span(LANE, side.kerb)
                floor.append(ground(light, lane, (START, END), 0.001, self.cobbles, "parking"))
            free = _between((START, END), [gap for owner, gap in gaps if owner is side])
            for stretch in free:
                self._sidewalk(side, stretch)
            for owner, gap in gaps:
                if owner is side:
                    far = side.span(side.kerb, 60.0)
                    floor.append(ground(light, far, gap, 0.0, self.road, "road"))
        self._paint(sides)

    def _sidewalk(self, side: Side, z: tuple[float, float]) -> None:
        light, floor = self.light, self.quads.floor
        floor.append(ground(light, side.span(side.front, side.back), z, KERB, self.slabs, "sidewalk"))
        if side.front > side.kerb:
            floor.append(ground(light, side.span(side.kerb, side.front), z, KERB, self.grass, "terrain"))
        origin, across = side.row(side.kerb, z)
        plain, tone = textures.plain(), 0.62
        floor.append(lit(light, origin, across, vec(0, KERB, 0), plain, "sidewalk", tint=tone))
        end = vec(min(side.x(side.kerb), side.x(side.back)), 0, z[0])
        floor.append(
            lit(light, end, vec(side.back - side.kerb, 0, 0), vec(0, KERB, 0), plain, "sidewalk", tint=tone)
        )
        rim = side.span(side.kerb, side.kerb + 0.22)
        self.quads.decals.append(decal(rim, z, KERB, plain, 0.66))

    def _paint(self, sides: tuple[Side, Side]) -> None:
        plain, bright = textures.plain(), float(self.rng.uniform(0.78, 0.92))
        for z in np.arange(START, END, 6.0):
            self.quads.decals.append(decal((-0.09, 0.09), (float(z), float(z) + 3), 0.0, plain, bright))
        for side in sides:
            if side.parking:
                line = side.span(LANE - 0.06, LANE + 0.08)
                self.quads.decals.append(decal(line, (START, END), 0.0, plain, bright * 0.9))
        if self.rng.random() < 0.45:
            z = float(self.rng.uniform(8, 16))
            for x in np.arange(-LANE, LANE, 1.0):
                self.quads.decals.append(
                    decal((float(x) + 0.1, float(x) + 0.65), (z, z + 3), 0.0, plain, bright)
                )

    def shade_street(self, sides: tuple[Side, Side]) -> None:
        """Shade the street on the sun's side by its houses."""
        if abs(self.light.side) < 0.45:
            return
        side = sides[1] if self.light.side > 0 else sides[0]
        reach = side.kerb + 1.0 - 6.0 * abs(self.light.side)
        for y, near, far in ((0.0, reach, side.kerb), (KERB, side.kerb, side.back)):
            x = side.span(near, far)
            band = textures.soft_band() if y == 0.0 else textures.soft_box()
            quad = decal(x, (START, END), y, band)
            if side.sign < 0 and y == 0.0:
                quad = Quad(vec(x[1], y, START), vec(x[0] - x[1], 0, 0), quad.up, band, decal=True)
            if y == 0.0:
                self.quads.decals.append(quad)

    def house(self, side: Side, z: tuple[float, float], distance: float, floors: int, shop: bool) -> None:
        """Build a house: street front, near end, roof."""
        rng, light = self.rng, self.light
        color = textures.pick(rng, self.palette)
        front, depth = textures.facade(rng, color), 9.0
        base, height = (3.4 if shop else 0.0), 3.0 * floors
        top, solid = base + height, self.quads.solid
        origin, across = side.row(distance, z)
        near = vec(min(side.x(distance), side.x(distance + depth)), 0, z[0])
        width, shift = vec(depth, 0, 0), (float(rng.uniform(0, 6)), 0.0)
        for foot, edge in ((origin, across), (near, width)):
            solid.append(lit(light, foot + UP * base, edge, UP * height, front, "building", shift=shift))
            if shop:
                ground_floor = textures.ground_floor(rng, color)
                solid.append(lit(light, foot, edge, UP * base, ground_floor, "building", shift=shift))
        if rng.random() < 0.7:
            rise, plain = 3.0, textures.gable(color)
            slope = vec(side.sign * depth / 2, rise, 0)
            eaves = origin + UP * top - vec(side.sign * 0.4, 0.25, 0)
            solid.append(
                lit(light, eaves, across, slope + vec(side.sign * 0.4, 0.25, 0), self.roof, "building")
            )
            solid.append(lit(light, near + UP * top, width, UP * rise, plain, "building"))
        else:
            cornice = vec(-side.sign * 0.25, 0.5, 0)
            solid.append(
                lit(
                    light,
                    origin + UP * top,
                    across,
                    cornice,
                    textures.plain(),
                    "building",
                    tint=np.array(color),
                )
            )

    def barrier(self, side: Side, z: tuple[float, float], kind: str) -> None:
        """Build a fence, a wall or a hedge at the back of the sidewalk."""
        rng, light, solid = self.rng, self.light, self.quads.solid
        texture, height, thick, label = {
            "fence": (self.planks, float(rng.uniform(1.35, 1.7)), 0.08, "fence"),
            "wall": (self.bricks, float(rng.uniform(1.6, 2.5)), 0.35, "wall"),
            "hedge": (self.leaves, float(rng.uniform(1.1, 1.7)), 0.9, "vegetation"),
        }[kind]
        if kind == "fence":
            texture = Texture(texture.atlas, texture.size, texture.offsets, (2.4, height), texture.opaque)
        origin, across = side.row(side.back, z)
        solid.append(lit(light, origin, across, UP * height, texture, label))
        end = vec(min(side.x(side.back), side.x(side.back + thick)), 0, z[0])
        solid.append(lit(light, end, vec(thick, 0, 0), UP * height, texture, label))
        if kind == "wall":
            rim = origin + UP * height - vec(side.sign * 0.08, 0, 0)
            solid.append(lit(light, rim, across, UP * 0.16, textures.plain(), label, tint=0.6))
        # The plot's near edge runs away from the street and so faces the driver.
        if kind != "hedge" and z[0] > 8:
            corner = vec(min(side.x(side.back), side.x(side.back + 7)), 0, z[0])
            solid.append(lit(light, corner, vec(7, 0, 0), UP * height, texture, label))
        shade = side.span(side.back - 0.7, side.back + 0.5)
        self.quads.decals.append(decal(shade, z, KERB, textures.soft_box()))

    def garden(self, side: Side, z: tuple[float, float]) -> None:
        """Plant trees and bushes behind a barrier, and set a house back."""
        rng, light = self.rng, self.light
        for foot in np.arange(z[0] + 2, z[1] - 1, 5.5):
            x = side.x(side.back + float(rng.uniform(2.0, 4.0)))
            if rng.random() < 0.6:
                self.quads.add(
                    objects.tree(
                        light, rng, self.foliage, (x, -0.03, float(foot)), float(rng.uniform(4.5, 7.5))
                    )
                )
            else:
                self.quads.add(
                    objects.bush(
                        light, rng, self.foliage, (x, -0.03, float(foot)), float(rng.uniform(1.2, 2.2))
                    )
                )
        self.house(side, (z[0] + 1, z[1] - 1), side.back + 7.5, int(rng.integers(2, 4)), False)

    def park(self, side: Side, z: tuple[float, float]) -> None:
        """Leave a meadow with trees and bushes."""
        rng, light = self.rng, self.light
        for foot in np.arange(z[0] + 2.5, z[1], 5.0):
            x = side.x(side.back + float(rng.uniform(2.5, 10.0)))
            self.quads.add(
                objects.tree(light, rng, self.foliage, (x, -0.03, float(foot)), float(rng.uniform(5.0, 9.0)))
            )
        for _ in range(2):
            x, foot = side.x(side.back + float(rng.uniform(1.0, 6.0))), float(rng.uniform(*z))
            self.quads.add(
                objects.bush(light, rng, self.foliage, (x, -0.03, foot), float(rng.uniform(0.7, 1.5)))
            )

    def close(self) -> None:
        """Close the view: houses across the end of the street, high trees on both sides."""
        rng, light, x = self.rng, self.light, -70.0
        fronts = [textures.facade(rng, color) for color in self.palette[:3]]
        while x < 70:
            width, floors = float(rng.uniform(10, 18)), int(rng.integers(2, 5))
            front = fronts[rng.integers(len(fronts))]
            face = vec(width, 0, 0)
            self.quads.solid.append(lit(light, vec(x, 0, END), face, UP * 3 * floors, front, "building"))
            slope = vec(0, 3.0, 4.0)
            self.quads.solid.append(lit(light, vec(x, 3.0 * floors, END), face, slope, self.roof, "building"))
            x += width + float(rng.uniform(0, 2))
        for sign in (-1, 1):
            for z in np.arange(24, END, 7.0):
                x, size = sign * float(rng.uniform(24, 38)), float(rng.uniform(7, 11))
                foot = (x, -0.12 * size, float(z))
                crown = self.foliage.crowns[rng.integers(3)][1]
                self.quads.solid.append(objects.upright(light, foot, (size * 1.2, size), crown, "vegetation"))


def _between(whole: tuple[float, float], gaps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return what is left of an interval without the gaps."""
    edges = [whole[0], *(edge for gap in sorted(gaps) for edge in gap), whole[1]]
    return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if high > low]


_ORDERS = (
    ("house", "fence", "park", "house", "wall"),
    ("wall", "house", "fence", "house", "park"),
    ("fence", "park", "house", "wall", "house"),
    ("park", "wall", "house", "fence", "house"),
    ("house", "wall", "house", "hedge", "fence"),
)


def build_street(
    rng: Generator, light: Light, index: int, palette: np.ndarray
) -> tuple[Builder, tuple[Side, Side]]:
    """Build street, plots and closing for sequence `index`."""
    builder = Builder(rng, light, palette)
    parking = ((True, False), (False, True), (True, True), (False, False))[index % 4]
    sides = (make_side(rng, -1, parking[0]), make_side(rng, 1, parking[1]))
    gaps = []
    for side in sides:
        # Both sides start at different kinds: a wall or a fence stands near the camera in every sequence.
        order = _ORDERS[(index + (2 if side.sign > 0 else 0)) % len(_ORDERS)]
        # The first house ends where the side comes into view, so what follows is what one sees.
        z, gap_after = 11.0 if side.sign > 0 else 14.0, int(rng.integers(1, 5))
        builder.house(side, (START, z), side.back, int(rng.integers(1, 4)), bool(rng.random() < 0.65))
        for step in range(12):
            if z > END - 8:
                break
            kind = order[step % len(order)]
            length = float(rng.uniform(9, 15))
            plot = (z, min(z + length, END - 1))
            if kind == "house":
                builder.house(side, plot, side.back, int(rng.integers(1, 4)), bool(rng.random() < 0.65))
            elif kind == "park":
                builder.park(side, plot)
            else:
                builder.barrier(side, plot, kind)
                builder.garden(side, plot)
            z = plot[1]
            if step == gap_after and z < END - 20:
                gaps.append((side, (z, z + 6.5)))
                z += 6.5
    builder.lay_ground(sides, gaps)
    builder.shade_street(sides)
    builder.close()
    return builder, sides
