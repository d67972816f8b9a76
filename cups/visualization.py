"""Pictures for people: colour maps, overlays and figure sheets.

Everything takes and returns NumPy arrays, images as (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cups.ops.borders import label_borders
from cups.ops.panoptic_map import PanopticMap, as_panoptic_map
from cups.taxonomy import void_value

VOID_COLOR = (38, 38, 42)
BACKGROUND = (255, 255, 255)
INK = (32, 34, 40)
MUTED_INK = (112, 116, 126)
GUTTER = 10
MARGIN = 18
Legend = Sequence[tuple[str, Sequence[int]]]
TILE_WIDTHS = (320, 640)
"""Least and greatest width of a tile on a sheet, pixels."""
CORNER = 6

_LIGHTNESS_SPAN = 34.0
_HUE_SPAN = 0.45
# Fractions of the R2 low-discrepancy sequence: neighbouring instance numbers get far-apart shades.
_SHADE_STEPS = np.array([0.7548776662, 0.5698402910])


def _to_lab(colors: np.ndarray) -> np.ndarray:
    return cv2.cvtColor((colors.reshape(1, -1, 3) / 255.0).astype(np.float32), cv2.COLOR_RGB2LAB)[0]


def _from_lab(lab: np.ndarray) -> np.ndarray:
    rgb = cv2.cvtColor(lab.reshape(1, -1, 3).astype(np.float32), cv2.COLOR_LAB2RGB)[0]
    return np.round(rgb.clip(0.0, 1.0) * 255.0).astype(np.uint8)


@cache
def pseudo_palette(count: int) -> np.ndarray:
    """Return (count, 3) uint8 colours, far apart to the eye; the first of a longer palette are the same.

    Each next colour is the one farthest in CIELAB from all before it, among colours neither dark, pale, grey
    nor glaring. The array is shared and read only.
    """
    levels = np.linspace(0, 255, 18).round()
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _to_lab(candidates)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    pleasant = (lab[:, 0] > 40) & (lab[:, 0] < 88) & (chroma > 24) & (chroma < 78)
    candidates, lab = candidates[pleasant], lab[pleasant]
    chosen = [int(np.square(lab - _to_lab(np.array([31, 119, 180]))).sum(axis=1).argmin())]
    distance = np.full(len(lab), np.inf)
    while len(chosen) < min(count, len(lab)):
        distance = np.minimum(distance, np.square(lab - lab[chosen[-1]]).sum(axis=1))
        chosen.append(int(distance.argmax()))
    palette = candidates[np.resize(chosen, count)].astype(np.uint8)
    palette.setflags(write=False)
    return palette


def _check_ids(ids: np.ndarray, colors: np.ndarray) -> None:
    known = ids[ids != void_value(len(colors))]
    if known.size and (int(known.min()) < 0 or int(known.max()) >= len(colors)):
        raise ValueError(f"ids {known.min()}..{known.max()} do not fit {len(colors)} colours")


def semantic_to_color(ids: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Colour a semantic map: (H, W) integer ids, (C, 3) uint8 colours -> (H, W, 3) uint8.

    Void is `cups.taxonomy.void_value(C)`, here and below.

    Raises:
        ValueError: for an id without a colour.
    """
    ids = np.asarray(ids).astype(np.int64)
    _check_ids(ids, colors)
    table = np.concatenate((colors, [VOID_COLOR])).astype(np.uint8)
    return table[np.minimum(ids, len(colors))]


def instances_to_color(ids: np.ndarray) -> np.ndarray:
    """Colour an instance map: (H, W) integer ids, 0 none -> (H, W, 3) uint8, a colour for each id."""
    ids = np.asarray(ids).astype(np.int64)
    palette = np.concatenate((np.array([VOID_COLOR], dtype=np.uint8), pseudo_palette(128)))
    picture = palette[np.where(ids > 0, (ids - 1) % 128 + 1, 0)]
    return _draw_borders(picture, ids, np.zeros(ids.shape, dtype=bool))


def depth_to_color(depth: np.ndarray, percentiles: tuple[float, float] = (2.0, 98.0)) -> np.ndarray:
    """Colour a depth map: (H, W) positive depth in any unit -> (H, W, 3) uint8, near is bright.

    Logarithmic, so that near and far differ alike; `percentiles` of the valid depths span the colours.
    Pixels that are not finite or not positive are grey.
    """
    depth = np.asarray(depth, dtype=np.float32)
    valid = np.isfinite(depth) & (depth > 0)
    picture = np.full((*depth.shape, 3), VOID_COLOR, dtype=np.uint8)
    if not valid.any():
        return picture
    logarithm = np.log(np.where(valid, depth, 1.0))
    low, high = np.percentile(logarithm[valid], percentiles)
    nearness = 1.0 - ((logarithm - low) / max(high - low, 1e-6)).clip(0.0, 1.0)
    colored = cv2.applyColorMap(np.round(nearness * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    picture[valid] = colored[..., ::-1][valid]
    return picture


def _shades(colors: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Vary (n, 3) class colours in lightness and hue by (n,) instance numbers; 0 keeps the colour."""
    lab = _to_lab(colors)
    half = _LIGHTNESS_SPAN / 2
    offset = (instances[:, None] * _SHADE_STEPS) % 1.0 - 0.5
    # Dark class colours (car: 0, 0, 142) are lifted, else half of their shades would be black.
    lightness = lab[:, 0].clip(30 + half, 92 - half) + offset[:, 0] * _LIGHTNESS_SPAN
    angle = offset[:, 1] * _HUE_SPAN
    a = lab[:, 1] * np.cos(angle) - lab[:, 2] * np.sin(angle)
    b = lab[:, 1] * np.sin(angle) + lab[:, 2] * np.cos(angle)
    shaded = _from_lab(np.stack((lightness, a, b), axis=-1))
    return np.where(instances[:, None] > 0, shaded, colors)


def panoptic_to_color(panoptic: PanopticMap | np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Colour a panoptic map, or (H, W, 2) integer (category, instance): (H, W, 3) uint8.

    Stuff wears its class colour, each instance a shade of it.

    Raises:
        ValueError: for a category without a colour.
    """
    panoptic = as_panoptic_map(panoptic)
    classes = panoptic.category
    present = panoptic.areas > 0
    _check_ids(classes[present], colors)
    table = semantic_to_color(np.where(present, classes, void_value(len(colors))), colors)
    shaded = np.where((classes == void_value(len(colors)))[:, None], table, _shades(table, panoptic.instance))
    return shaded.astype(np.uint8)[panoptic.ids]


def _draw_borders(picture: np.ndarray, segments: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """Draw lines where (H, W) segment ids change: light where `bright` touches the line, else dark."""
    border = label_borders(segments, both_sides=False)
    light = border & (cv2.dilate(bright.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    side = max(1, round(segments.shape[0] / 360))
    kernel = np.ones((side, side), np.uint8)
    result = picture.astype(np.float32)
    for lines, ink, strength in ((border & ~light, 0.0, 0.45), (light, 255.0, 0.85)):
        weight = strength * cv2.dilate(lines.astype(np.float32), kernel)[..., None]
        result = result * (1 - weight) + ink * weight
    return np.round(result).astype(np.uint8)


def overlay(
    image: np.ndarray, panoptic: PanopticMap | np.ndarray, colors: np.ndarray, alpha: float = 0.6
) -> np.ndarray:
    """Lay a panoptic map over its image.

    Args:
        image: (H, W, 3) uint8.
        panoptic: a map, or (H', W', 2) integer (category, instance); brought to the image's size.
        colors: (C, 3) uint8, one for each category.
        alpha: opacity of the colours, 0-1.

    Returns:
        (H, W, 3) uint8: class colours, a shade for each instance with a light outline, dark lines between
        stuff regions; void is the image, darkened.

    Raises:
        ValueError: for a category without a colour.
    """
    height, width = image.shape[:2]
    panoptic = as_panoptic_map(panoptic).merged()
    panoptic = panoptic.with_ids(
        cv2.resize(panoptic.ids, (width, height), interpolation=cv2.INTER_NEAREST).astype(panoptic.ids.dtype)
    )
    paint = panoptic_to_color(panoptic, colors).astype(np.float32)
    # Colours of grey detail, not of the photograph's colours, keep their meaning.
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    base = 0.5 * image + 0.5 * gray
    void = panoptic.category == void_value(len(colors))
    mixed = np.where(void[panoptic.ids][..., None], 0.45 * base, (1 - alpha) * base + alpha * paint)
    bright = ((panoptic.instance > 0) & ~void)[panoptic.ids]
    return _draw_borders(np.round(mixed).astype(np.uint8), panoptic.ids, bright)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of all pictures at a size in pixels."""
    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Return how many pixels a text takes."""
    return round(font(size).getlength(text))


def _fitted(text: str, size: int, width: int) -> str:
    """Shorten `text` in its middle until it is at most `width` pixels wide."""
    if text_width(text, size) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = f"{text[: (keep + 1) // 2]}...{text[len(text) - keep // 2 :]}"
        if text_width(short, size) <= width:
            return short
    return text[:1]


def caption(image: np.ndarray, text: str, size: int = 14) -> np.ndarray:
    """Return (H, W, 3) uint8 with `text` on a dark label in the upper left corner."""
    picture = Image.fromarray(image).convert("RGBA")
    layer = Image.new("RGBA", picture.size)
    draw = ImageDraw.Draw(layer)
    text = _fitted(text, size, image.shape[1] - 2 * size)
    box = (size // 2, size // 2, size // 2 + text_width(text, size) + size, size // 2 + round(1.7 * size))
    draw.rounded_rectangle(box, radius=size // 3, fill=(0, 0, 0, 165))
    middle = (size, (box[1] + box[3]) / 2)
    draw.text(middle, text, font=font(size), fill=(255, 255, 255, 255), anchor="lm")
    return np.asarray(Image.alpha_composite(picture, layer).convert("RGB"))


def _fit_tile(image: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    if image.shape[1] == width:
        return image
    # Enlarged label maps keep their hard edges.
    mode = cv2.INTER_AREA if image.shape[1] > width else cv2.INTER_NEAREST
    return cv2.resize(image, (width, height), interpolation=mode)


def _rounded_mask(width: int, height: int) -> Image.Image:
    factor = 4
    mask = Image.new("L", (width * factor, height * factor))
    box = (0, 0, width * factor - 1, height * factor - 1)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius=CORNER * factor, fill=255)
    return mask.resize((width, height), Image.Resampling.LANCZOS)


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), BACKGROUND)


def _small(tile: int) -> int:
    return max(11, round(tile / 34))


def _header_band(columns: Sequence[str], tile: int, width: int) -> Image.Image:
    size = max(13, round(tile / 26))
    band = _blank(width, round(1.9 * size))
    draw = ImageDraw.Draw(band)
    for index, name in enumerate(columns):
        middle = (MARGIN + index * (tile + GUTTER) + tile / 2, band.height * 0.4)
        draw.text(middle, _fitted(name, size, tile), font=font(size), fill=INK, anchor="mm")
    return band


def _name_band(name: str, tile: int, width: int) -> Image.Image:
    size = _small(tile)
    band = _blank(width, round(1.8 * size))
    name = _fitted(name, size, width - 2 * MARGIN)
    place = (MARGIN, band.height * 0.45)
    ImageDraw.Draw(band).text(place, name, font=font(size), fill=MUTED_INK, anchor="lm")
    return band


def _tile_band(row: Sequence[np.ndarray | None], tile: int, width: int) -> Image.Image:
    tiles = [None if image is None else _fit_tile(image, tile) for image in row]
    band = _blank(width, max((image.shape[0] for image in tiles if image is not None), default=0))
    for index, image in enumerate(tiles):
        if image is not None:
            place = (MARGIN + index * (tile + GUTTER), 0)
            band.paste(Image.fromarray(image), place, _rounded_mask(tile, image.shape[0]))
    return band


def legend_band(legend: Legend, tile: int, width: int) -> Image.Image:
    """Return a white band of a width in pixels with coloured chips and names; letters fit tiles of `tile`."""
    size = _small(tile)
    line, chip = round(1.8 * size), round(1.2 * size)
    places, x, y = [], MARGIN, line
    for name, _ in legend:
        entry = round(1.7 * size) + text_width(name, size)
        if x > MARGIN and x + entry > width - MARGIN:
            x, y = MARGIN, y + line
        places.append((x, y))
        x += entry + chip
    band = _blank(width, y + line // 2)
    draw = ImageDraw.Draw(band)
    for (name, color), (x, y) in zip(legend, places, strict=True):
        box = (x, y - size // 2, x + chip, y - size // 2 + size)
        draw.rounded_rectangle(box, radius=3, fill=tuple(int(value) for value in color))
        draw.text((x + round(1.7 * size), y), name, font=font(size), fill=INK, anchor="lm")
    return band


def figure_sheet(
    columns: Sequence[str],
    rows: Sequence[Sequence[np.ndarray | None]],
    row_names: Sequence[str] | None = None,
    *,
    legend: Legend = (),
    tile_width: int | None = None,
) -> np.ndarray:
    """Set pictures in a table with a header, even gutters and a white ground.

    Args:
        columns: header of each column; may be empty.
        rows: (H, W, 3) uint8 pictures of any size; None leaves a place empty.
        row_names: small text above each row.
        legend: (name, RGB colour) pairs below the table.
        tile_width: pixels; by default the widest picture's, within `TILE_WIDTHS`.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: without a picture, or with another number of names than rows.
    """
    pictures = [image for row in rows for image in row if image is not None]
    if not pictures:
        raise ValueError("a figure sheet needs at least one picture")
    if row_names is not None and len(row_names) != len(rows):
        raise ValueError(f"{len(row_names)} row names for {len(rows)} rows")
    tile = tile_width or int(np.clip(max(image.shape[1] for image in pictures), *TILE_WIDTHS))
    count = max(len(columns), *(len(row) for row in rows))
    width = 2 * MARGIN + count * tile + (count - 1) * GUTTER
    bands = [_header_band(columns, tile, width)] if any(columns) else []
    for number, row in enumerate(rows):
        bands += [_name_band(row_names[number], tile, width)] if row_names is not None else []
        bands += [_tile_band(row, tile, width), _blank(width, GUTTER)]
    bands = bands[:-1] + ([legend_band(legend, tile, width)] if legend else [])
    margin = _blank(width, MARGIN)
    return np.concatenate([np.asarray(band) for band in (margin, *bands, margin)])
