"""Materials of the toy city: each class has its own orientation, grain and frequency; colours overlap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.random import Generator

from cups.data.toy.render import Texture, make_texture

Color = tuple[float, float, float]


def grain(rng: Generator, size: int, low: float, high: float, stretch: float = 1.0) -> np.ndarray:
    """Return (size, size) periodic noise of unit deviation with `low`-`high` waves per period.

    `stretch` above 1 makes it streaky: longer along the rows' axis (upright streaks).
    """
    rows, columns = np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size)
    radius = np.hypot(rows[:, None] * stretch, columns[None])
    band = np.exp(-((radius / high) ** 2)) - np.exp(-((radius / max(low, 1e-6)) ** 2))
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * np.maximum(band, 0)
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return noise / noise.std()


def _tone(color: Color, lightness: np.ndarray) -> np.ndarray:
    return np.asarray(color) * lightness[..., None]


def jitter(rng: Generator, color: Color, amount: float = 0.05) -> Color:
    """Return the colour, a little lighter or darker and a little off its hue."""
    varied = np.asarray(color) * rng.uniform(1 - 2 * amount, 1 + 2 * amount) + rng.uniform(-amount, amount, 3)
    r, g, b = np.clip(varied, 0.02, 0.98)
    return float(r), float(g), float(b)


def pick(rng: Generator, colors: Sequence[Color], amount: float = 0.05) -> Color:
    """Return one of the colours, varied as `jitter` does."""
    return jitter(rng, colors[int(rng.integers(len(colors)))], amount)


def asphalt(rng: Generator) -> Texture:
    """Fine speckle without direction, with large faint patches."""
    light = 1 + 0.09 * grain(rng, 256, 20, 60) + 0.05 * grain(rng, 256, 1, 4)
    light += 0.05 * grain(rng, 256, 2, 30, 6.0)
    return make_texture(_tone(jitter(rng, (0.42, 0.42, 0.44), 0.012), light), (8.0, 8.0))


def slabs(rng: Generator) -> Texture:
    """Square paving slabs with dark joints, each slab of its own tone."""
    cells = 8
    tone = np.kron(1 + 0.10 * rng.standard_normal((cells, cells)), np.ones((32, 32)))
    light = tone + 0.04 * grain(rng, 256, 10, 50)
    step = np.arange(256) % 32
    joint = (step[:, None] < 4) | (step[None] < 4)
    light = np.where(joint, 0.55, light)
    return make_texture(_tone(jitter(rng, (0.58, 0.55, 0.53), 0.03), light), (7.2, 7.2))


def cobbles(rng: Generator) -> Texture:
    """Small stones in offset rows."""
    light = _courses(rng, 256, 16, 16, 3, 0.16) + 0.05 * grain(rng, 256, 10, 50)
    return make_texture(_tone(jitter(rng, (0.45, 0.42, 0.41), 0.03), light), (5.0, 5.0))


def grass(rng: Generator) -> Texture:
    """Tufts: medium grain, green to straw."""
    clump, blade = grain(rng, 256, 2, 8), grain(rng, 256, 12, 48, 0.5)
    light = 1 + 0.18 * blade + 0.06 * clump
    dry = np.clip(0.35 + 0.3 * clump, 0, 1)[..., None]
    fresh = np.asarray(jitter(rng, (0.36, 0.47, 0.20)))
    straw = np.asarray(jitter(rng, (0.52, 0.48, 0.28)))
    return make_texture((fresh * (1 - dry) + straw * dry) * light[..., None], (6.0, 6.0))


def _courses(rng: Generator, size: int, rows: int, columns: int, joint: int, spread: float) -> np.ndarray:
    """(size, size) lightness of a bond: rows of stones, every other row shifted by half a stone."""
    tone = 1 + spread * rng.standard_normal((rows, columns))
    y, x = np.mgrid[:size, :size]
    row = y * rows // size
    column_width = size // columns
    shifted = (x + (row % 2) * (column_width // 2)) % size
    light = tone[row, shifted // column_width]
    edge = (y % (size // rows) < joint) | (shifted % column_width < joint)
    return np.where(edge, 0.6, light)


def bricks(rng: Generator) -> Texture:
    """Courses of long bricks: strong level lines, weak upright ones."""
    palette: tuple[Color, ...] = (
        (0.56, 0.33, 0.26),
        (0.60, 0.55, 0.48),
        (0.45, 0.42, 0.42),
        (0.62, 0.45, 0.33),
    )
    light = _courses(rng, 256, 8, 4, 4, 0.13) + 0.05 * grain(rng, 256, 4, 40)
    return make_texture(_tone(pick(rng, palette), light), (2.8, 2.4))


def planks(rng: Generator) -> Texture:
    """Upright boards with dark gaps and two rails: strong upright lines."""
    palette: tuple[Color, ...] = (
        (0.50, 0.36, 0.24),
        (0.72, 0.70, 0.66),
        (0.33, 0.42, 0.36),
        (0.42, 0.38, 0.36),
    )
    tone = np.repeat(1 + 0.12 * rng.standard_normal(8), 32)[None].repeat(256, 0)
    light = tone + 0.06 * grain(rng, 256, 2, 40, 6.0)
    light = np.where((np.arange(256) % 32 < 9)[None], 0.30, light)
    rows = np.arange(256)[:, None]
    light = np.where((np.abs(rows - 60) < 10) | (np.abs(rows - 205) < 10), light * 0.78, light)
    return make_texture(_tone(pick(rng, palette), light), (2.4, 1.5))


def leaves(rng: Generator, hue: float = 0.0) -> Texture:
    """Clumps of foliage: blotches of strong contrast, no direction."""
    pixels = _foliage(rng, hue)
    return make_texture(pixels, (4.0, 4.0))


def _foliage(rng: Generator, hue: float) -> np.ndarray:
    clump, leaf = grain(rng, 256, 3, 10), grain(rng, 256, 14, 34)
    light = np.clip(0.85 + 0.27 * clump + 0.24 * leaf, 0.18, 1.9)
    base = np.array((0.25 + 0.14 * hue, 0.36 + 0.04 * hue, 0.14))
    warm = np.clip(0.5 + 0.4 * clump, 0, 1)[..., None] * np.array((0.08, 0.07, 0.0))
    return np.clip((base + warm) * light[..., None], 0, 1)


def crown(rng: Generator, hue: float) -> Texture:
    """A ragged ball of foliage, darker towards its foot: a sprite."""
    pixels = _foliage(rng, hue)
    y, x = (np.mgrid[:256, :256] + 0.5) / 128 - 1
    rim = 0.84 + 0.075 * grain(rng, 256, 2, 9) + 0.045 * grain(rng, 256, 10, 26)
    alpha = (np.hypot(x, y) < np.minimum(rim, 0.98)).astype(np.float32)
    shade = 1.12 - 0.42 * np.clip(y + 0.3 * x + 0.2, 0, 1)
    return make_texture(np.dstack((pixels * shade[..., None], alpha)))


def bark(rng: Generator) -> Texture:
    """A round trunk with upright furrows: a sprite."""
    light = (1 + 0.25 * grain(rng, 64, 3, 20, 4.0)) * _roundness(64)[None]
    return make_texture(_tone(jitter(rng, (0.36, 0.29, 0.23)), light))


def _roundness(size: int) -> np.ndarray:
    x = (np.arange(size) + 0.5) / size * 2 - 1
    return 0.55 + 0.55 * np.sqrt(np.clip(1 - (x + 0.3) ** 2 / 1.7, 0, 1))


def metal_post(rng: Generator) -> Texture:
    """A smooth cylinder: a sprite."""
    palette: tuple[Color, ...] = ((0.55, 0.56, 0.57), (0.30, 0.33, 0.33), (0.42, 0.43, 0.40))
    light = np.repeat(_roundness(32)[None] ** 1.6, 32, 0) * 1.1
    return make_texture(_tone(palette[rng.integers(len(palette))], light))


def roof(rng: Generator) -> Texture:
    """Roof tiles: fine level rows."""
    light = _courses(rng, 256, 16, 16, 4, 0.10)
    palette: tuple[Color, ...] = ((0.50, 0.27, 0.20), (0.34, 0.30, 0.30), (0.42, 0.25, 0.20))
    return make_texture(_tone(pick(rng, palette), light), (5.0, 5.0))


@cache
def plain() -> Texture:
    """White without structure; coloured by the quad's tint."""
    return make_texture(np.ones((4, 4, 3)), (1.0, 1.0))


@cache
def soft_spot() -> Texture:
    """A dark disc that fades out: contact shadows."""
    y, x = (np.mgrid[:64, :64] + 0.5) / 32 - 1
    alpha = 0.72 * np.clip(1.25 * (1 - np.maximum(np.hypot(x, y), np.abs(x) ** 3)), 0, 1) ** 0.8
    return make_texture(np.dstack((np.zeros((64, 64, 3)), alpha)))


@cache
def soft_box() -> Texture:
    """A dark rectangle with soft sides: the shade below a vehicle."""
    ramp = np.clip((1 - np.abs((np.arange(64) + 0.5) / 32 - 1)) * 3.2, 0, 1)
    return make_texture(np.dstack((np.zeros((64, 64, 3)), 0.78 * np.outer(ramp, ramp))))


@cache
def soft_band() -> Texture:
    """A shade that fades out at its far side: the shadow of a row of houses."""
    ramp = np.clip((np.arange(64) + 0.5) / 14, 0, 1)[None].repeat(64, 0)
    return make_texture(np.dstack((np.zeros((64, 64, 3)), 0.42 * ramp)))


FACADES: tuple[Color, ...] = (
    (0.74, 0.66, 0.52),
    (0.66, 0.60, 0.55),
    (0.55, 0.36, 0.30),
    (0.78, 0.74, 0.66),
    (0.60, 0.62, 0.64),
    (0.72, 0.55, 0.42),
    (0.50, 0.52, 0.46),
)


def _window_pane(rng: Generator, pixels: np.ndarray, box: tuple[int, int, int, int], frame: Color) -> None:
    left, top, right, bottom = box
    glass = rng.choice(([0.16, 0.20, 0.25], [0.30, 0.36, 0.42], [0.22, 0.22, 0.22], [0.45, 0.50, 0.55]))
    cv2.rectangle(pixels, (left - 5, top - 5), (right + 5, bottom + 5), frame, -1)
    rows = np.linspace(1.35, 0.8, bottom - top)[:, None, None]
    pixels[top:bottom, left:right] = glass * rows
    if rng.random() < 0.35:
        pixels[top : top + (bottom - top) * 2 // 5, left:right] = (0.75, 0.72, 0.66)
    middle = (left + right) // 2
    pixels[top:bottom, middle - 2 : middle + 2] = frame
    cv2.rectangle(pixels, (left - 9, bottom + 5), (right + 9, bottom + 11), tuple(0.8 * c for c in frame), -1)


def facade(rng: Generator, color: Color) -> Texture:
    """Two bays by two floors of windows in plaster (or brick); 3 m a floor."""
    light = 1 + 0.03 * grain(rng, 256, 1, 30)
    if rng.random() < 0.3:
        light = light * (0.6 + 0.4 * _courses(rng, 256, 32, 16, 2, 0.1))
    pixels = np.ascontiguousarray(_tone(color, light).astype(np.float32))
    pixels[118:128] = pixels[246:256] = np.asarray(color) * 0.72
    bright = rng.random() < 0.6
    frame: Color = (0.86, 0.85, 0.82) if bright else (0.28, 0.24, 0.22)
    wide, high = int(rng.integers(44, 66)), int(rng.integers(56, 74))
    for column in (64, 192):
        for row in (58, 186):
            box = (column - wide // 2, row - high // 2, column + wide // 2, row + high // 2)
            _window_pane(rng, pixels, box, frame)
    return make_texture(pixels, (float(rng.uniform(4.6, 6.4)), 6.0))


def ground_floor(rng: Generator, color: Color) -> Texture:
    """Two shop windows with awnings and a door; one floor high."""
    light = 0.7 + 0.03 * np.kron(rng.standard_normal((32, 64)), np.ones((4, 4)))
    pixels = _tone(color, light)
    awning = jitter(
        rng, ((0.6, 0.2, 0.18), (0.2, 0.36, 0.3), (0.25, 0.3, 0.48), (0.7, 0.6, 0.4))[rng.integers(4)]
    )
    for left, right in ((14, 92), (150, 244)):
        rows = np.linspace(0.42, 0.16, 70)[:, None, None]
        pixels[44:114, left:right] = np.array((0.8, 0.95, 1.1)) * rows
        goods = rng.uniform(0.3, 0.75, (3, (right - left) // 13, 3))
        pixels[84:114, left + 3 : left + 3 + 13 * goods.shape[1]] = np.kron(goods[:1], np.ones((30, 13, 1)))
        pixels[20:44, left - 6 : right + 6] = awning
    pixels[36:124, 106:134] = jitter(rng, (0.3, 0.22, 0.16))
    pixels[0:8] = np.asarray(color) * 0.6
    return make_texture(pixels, (8.0, 3.4))


def gable(color: Color) -> Texture:
    """The triangle below a roof: a sprite."""
    y, x = (np.mgrid[:128, :128] + 0.5) / 128
    alpha = (np.abs(x - 0.5) * 2 < y).astype(np.float32)
    return make_texture(np.dstack((np.broadcast_to(color, (128, 128, 3)), alpha)))


def sky(rng: Generator) -> np.ndarray:
    """Return (256, 1024, 3) float32 from blue to haze, with clouds; from high up (row 0) to the horizon."""
    wide = np.hstack([grain(rng, 256, 1, 5, 0.3)] * 4)
    wisps = np.hstack([grain(rng, 256, 3, 20, 0.45)] * 4)
    cover = rng.uniform(-0.9, 0.9)
    cloud = np.clip((wide + 0.35 * wisps + cover) * 0.6, 0, 1)[..., None]
    height = np.linspace(1, 0, 256)[:, None, None]
    zenith, haze = np.array((0.36, 0.55, 0.84)), np.array((0.83, 0.88, 0.93))
    blue = zenith * height**0.5 + haze * (1 - height**0.5)
    white = np.array((0.97, 0.97, 0.98)) * (1 - 0.10 * np.clip(wisps, -1, 2)[..., None] * cloud)
    return cv2.GaussianBlur((blue * (1 - cloud) + white * cloud).astype(np.float32), (0, 0), 2)
