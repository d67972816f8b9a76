"""A z-buffer for textured parallelograms: exact label, instance and depth maps, and an antialiased image.

World axes: x right, y up, z along the street, metres; the street is y = 0. A pixel's centre has integer
coordinates, so the ray of pixel (column, row) is ((column - u0) / fx, (row - v0) / fy, 1) in camera axes
(right, down, forward), and depth means the distance along the forward axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

NEAR = 0.3
"""Metres; what is nearer is cut away."""


@dataclass(frozen=True, eq=False)
class Texture:
    """A mip pyramid in one picture.

    Attributes:
        atlas: (A, B, 4) float32, colour 0-1 premultiplied by alpha, all levels stacked, each with a rim.
        size: (height, width) of level 0 in pixels.
        offsets: (levels,) row of each level's first pixel.
        extent: metres that one period covers (width, height), or None for a sprite that fills its quad.
        opaque: no alpha below 1.
    """

    atlas: np.ndarray
    size: tuple[int, int]
    offsets: np.ndarray
    extent: tuple[float, float] | None
    opaque: bool


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cross product of two (3,) vectors; `np.cross` spends its time on shapes."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx))


def make_texture(pixels: np.ndarray, extent: tuple[float, float] | None = None) -> Texture:
    """Build the pyramid of (H, W, 3 or 4) float pixels 0-1; row 0 is the top; sides best powers of 2."""
    if pixels.shape[2] == 3:
        pixels = np.dstack((pixels, np.ones(pixels.shape[:2])))
    level: np.ndarray = pixels.astype(np.float32)
    opaque = bool((level[..., 3] > 0.99).all())
    level[..., :3] = np.clip(level[..., :3], 0, 1) * level[..., 3:]
    size, width = level.shape[:2], level.shape[1] + 2
    bands, offsets, row = [], [], 0
    border = cv2.BORDER_REPLICATE if extent is None else cv2.BORDER_WRAP
    while True:
        band = cv2.copyMakeBorder(level, 1, 1, 1, 1, border)
        bands.append(
            cv2.copyMakeBorder(band, 0, 0, 0, width - band.shape[1], cv2.BORDER_CONSTANT, value=(0.0,))
        )
        offsets.append(row + 1)
        row += len(band)
        if min(level.shape[:2]) < 4 or level.shape[0] % 2 or level.shape[1] % 2:
            break
        half = (level.shape[1] // 2, level.shape[0] // 2)
        level = cv2.resize(level, half, interpolation=cv2.INTER_AREA)
    return Texture(np.vstack(bands), (size[0], size[1]), np.array(offsets, np.float32), extent, opaque)


def _sample_level(texture: Texture, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
    scale = np.exp2(-level)
    columns = u * (texture.size[1] * scale) + 0.5
    rows = v * (texture.size[0] * scale) - 0.5 + texture.offsets[level.astype(np.intp)]
    return cv2.remap(texture.atlas, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def sample_texture(texture: Texture, u: np.ndarray, v: np.ndarray, lod: np.ndarray) -> np.ndarray:
    """Trilinear lookup: (h, w) float32 coordinates 0-1, v from the top -> (h, w, 4) premultiplied."""
    last = len(texture.offsets) - 1
    lod = np.clip(lod, 0, last)
    low = np.floor(lod)
    out = _sample_level(texture, u, v, low)
    weight = (lod - low)[..., None]
    if last == 0 or not weight.any():
        return out
    out += weight * (_sample_level(texture, u, v, np.minimum(low + 1, last)) - out)
    return out


@dataclass(frozen=True, eq=False)
class Quad:
    """A textured parallelogram.

    Attributes:
        origin: (3,) its lower left corner as seen from the front.
        across, up: (3,) edges from there, metres.
        texture: with an extent, repeated from `shift` (metres) on; without, stretched over the quad.
        label, instance: Cityscapes id; number of the object, or -1 for stuff.
        tint: (3,) factors on the colour, the light included.
        decal: only blends its colour over the surface it lies on; keeps labels and depth.
    """

    origin: np.ndarray
    across: np.ndarray
    up: np.ndarray
    texture: Texture
    label: int = 0
    instance: int = -1
    tint: np.ndarray | tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    decal: bool = False


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; `pitch` is positive when it looks down, `yaw` to the right (radians)."""

    height: int
    width: int
    fx: float
    fy: float
    u0: float
    v0: float
    position: tuple[float, float, float]
    pitch: float = 0.0
    yaw: float = 0.0

    def axes(self) -> np.ndarray:
        """Return (3, 3) rows right, down, forward in the world."""
        sin_p, cos_p, sin_y, cos_y = (
            np.sin(self.pitch),
            np.cos(self.pitch),
            np.sin(self.yaw),
            np.cos(self.yaw),
        )
        forward = np.array((sin_y * cos_p, -sin_p, cos_y * cos_p))
        right = np.array((cos_y, 0.0, -sin_y))
        return np.stack((right, np.cross(right, forward), forward))

    def scaled(self, factor: int) -> Camera:
        """Return the camera with `factor` times the pixels; subpixel centres divide each pixel evenly."""
        return Camera(
            self.height * factor,
            self.width * factor,
            self.fx * factor,
            self.fy * factor,
            (self.u0 + 0.5) * factor - 0.5,
            (self.v0 + 0.5) * factor - 0.5,
            self.position,
            self.pitch,
            self.yaw,
        )

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) world -> (N, 3) column, row, depth."""
        local = (points - np.asarray(self.position)) @ self.axes().T
        depth = local[:, 2]
        return np.stack(
            (self.fx * local[:, 0] / depth + self.u0, self.fy * local[:, 1] / depth + self.v0, depth), axis=1
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """What the camera sees.

    Attributes:
        color: (H, W, 3) float32.
        label, instance: (H, W) int32, instance -1 for stuff.
        depth: (H, W) float32 metres, infinite in the sky.
    """

    color: np.ndarray
    label: np.ndarray
    instance: np.ndarray
    depth: np.ndarray


Window = tuple[slice, slice]
"""Rows and columns."""


def _windows(quads: Sequence[Quad], camera: Camera, axes: np.ndarray) -> list[Window | None]:
    """Return where each quad can touch the image, after cutting what lies before the near plane.

    For all at once: a street has hundreds of quads, most of them of a few pixels.
    """
    if not quads:
        return []
    o, a, b = (np.array([getattr(quad, name) for quad in quads]) for name in ("origin", "across", "up"))
    corners = (np.stack((o, o + a, o + a + b, o + b), axis=1) - np.asarray(camera.position)) @ axes.T
    after = np.roll(corners, -1, axis=1)
    seen = corners[..., 2] > NEAR
    cut = seen != np.roll(seen, -1, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # of edges that the plane does not cut
        share = (NEAR - corners[..., 2]) / (after[..., 2] - corners[..., 2])
        points = np.concatenate((corners, corners + share[..., None] * (after - corners)), axis=1)
        columns = points[..., 0] / points[..., 2] * camera.fx + camera.u0
        rows = points[..., 1] / points[..., 2] * camera.fy + camera.v0
    used = np.concatenate((seen, cut), axis=1)
    (left, right), (top, bottom) = (
        (
            np.floor(np.where(used, values, np.inf).min(axis=1)).clip(0, side).astype(int).tolist(),
            (np.ceil(np.where(used, values, -np.inf).max(axis=1)) + 1).clip(0, side).astype(int).tolist(),
        )
        for values, side in ((columns, camera.width), (rows, camera.height))
    )
    return [
        (slice(t, d), slice(le, r)) if le < r and t < d else None
        for t, d, le, r in zip(top, bottom, left, right, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Hit:
    """Where rays meet a quad: depth, coordinates 0-1 from its lower left corner, metres a pixel covers.

    `inside`: whether they do so, before what is nearer.
    """

    depth: np.ndarray
    u: np.ndarray
    v: np.ndarray
    inside: np.ndarray
    footprint: np.ndarray


def _rays(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each column goes to the right and each row down, per metre forward: (1, W), (H, 1)."""
    columns, rows = np.arange(camera.width), np.arange(camera.height)
    return ((columns - camera.u0) / camera.fx)[None], ((rows - camera.v0) / camera.fy)[:, None]


def _intersect(
    quad: Quad,
    camera: Camera,
    axes: np.ndarray,
    rays: tuple[np.ndarray, np.ndarray],
    behind: np.ndarray | float,
) -> _Hit | None:
    """Return where rays meet a quad, None if all do so behind something that is nearer.

    Args:
        quad: the quad.
        camera, axes: where the rays start, and `camera.axes()`.
        rays: those of `_rays` in the window.
        behind: (h, w) metres, depth of what hides the quad; infinite if nothing does.
    """
    normal = cross(quad.across, quad.up)
    square = float(normal @ normal)
    offset = np.asarray(camera.position) - quad.origin
    x, y = rays

    def along(vector: np.ndarray) -> np.ndarray:
        right, down, forward = axes @ vector
        return (forward + right * x + down * y).astype(np.float32)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slope = along(normal)
        depth = np.float32(-(normal @ offset)) / slope
        inside = (depth > NEAR) & (depth < behind)
        if not inside.any():
            return None
        dual_u = cross(quad.up, normal) / square
        dual_v = cross(normal, quad.across) / square
        u = np.float32(dual_u @ offset) + depth * along(dual_u)
        v = np.float32(dual_v @ offset) + depth * along(dual_v)
        inside &= (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        cosine = np.abs(slope) / np.float32(np.sqrt(square))
        footprint = depth / np.float32(camera.fx) / np.sqrt(np.maximum(cosine, 1e-3))
    return _Hit(depth, u, v, inside, footprint)


def _colors(quad: Quad, hit: _Hit) -> np.ndarray:
    texture, width, height = quad.texture, np.linalg.norm(quad.across), np.linalg.norm(quad.up)
    extent = texture.extent or (float(width), float(height))
    u, v = hit.u * np.float32(width / extent[0]), hit.v * np.float32(height / extent[1])
    if texture.extent is not None:
        u, v = u + np.float32(quad.shift[0] / extent[0]), v + np.float32(quad.shift[1] / extent[1])
        u, v = u - np.floor(u), v - np.floor(v)
    u, v, footprint = (np.where(hit.inside, a, np.float32(0.5)) for a in (u, 1 - v, hit.footprint))
    texels = np.float32(np.sqrt(texture.size[0] * texture.size[1] / (extent[0] * extent[1])))
    return sample_texture(texture, u, v, np.log2(np.maximum(footprint * texels, 1e-6)))


def render(quads: Sequence[Quad], camera: Camera, background: np.ndarray | None, label: int) -> Frame:
    """Render quads over a background.

    Args:
        quads: ground first, then decals, then the rest (a decal covers only what is already there).
        background: (H, W, 3) float, colour at infinity; its depth is infinite. None: no colours.
        label: of the background.
    """
    axes, size = camera.axes(), (camera.height, camera.width)
    color = np.zeros((*size, 3), np.float32) if background is None else background.astype(np.float32)
    frame = Frame(
        color,
        label=np.full(size, label, np.int32),
        instance=np.full(size, -1, np.int32),
        depth=np.full(size, np.inf, np.float32),
    )
    quads = [quad for quad in quads if not quad.decal or background is not None]
    columns, rows = _rays(camera)
    for quad, window in zip(quads, _windows(quads, camera, axes), strict=True):
        if window is None:
            continue
        rays = columns[:, window[1]], rows[window[0]]
        hit = _intersect(quad, camera, axes, rays, np.inf if quad.decal else frame.depth[window])
        if hit is not None:
            (_blend if quad.decal else _draw)(quad, hit, window, frame, background is not None)
    return frame


def _blend(quad: Quad, hit: _Hit, window: Window, frame: Frame, _: bool) -> None:
    mask = hit.inside & (np.abs(hit.depth - frame.depth[window]) < 0.02 * hit.depth)
    if mask.any():
        rgba = _colors(quad, hit) * mask[..., None]
        below = frame.color[window]
        below += rgba[..., :3] * np.asarray(quad.tint, np.float32) - rgba[..., 3:] * below


def _draw(quad: Quad, hit: _Hit, window: Window, frame: Frame, shaded: bool) -> None:
    mask = hit.inside
    if not mask.any():
        return
    if shaded or not quad.texture.opaque:
        rgba = _colors(quad, hit)
        if not quad.texture.opaque:
            mask &= rgba[..., 3] > 0.5
            rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-3)
        np.copyto(
            frame.color[window], rgba[..., :3] * np.asarray(quad.tint, np.float32), where=mask[..., None]
        )
    np.copyto(frame.label[window], quad.label, where=mask)
    np.copyto(frame.instance[window], quad.instance, where=mask)
    np.copyto(frame.depth[window], hit.depth, where=mask)
