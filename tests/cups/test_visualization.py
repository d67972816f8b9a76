"""Pictures: colours mean what they should, sheets have the right geometry, inputs stay untouched."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cups.taxonomy import VOID, class_set
from cups.visualization import (
    BACKGROUND,
    GUTTER,
    MARGIN,
    VOID_COLOR,
    caption,
    depth_to_color,
    figure_sheet,
    instances_to_color,
    overlay,
    panoptic_to_color,
    pseudo_palette,
    semantic_to_color,
)

COLORS = class_set(19).colors
CAR = 13


def lab(colors: np.ndarray) -> np.ndarray:
    return cv2.cvtColor((np.asarray(colors).reshape(1, -1, 3) / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize(("count", "least"), [(19, 24.0), (50, 14.0), (300, 5.0)])
def test_pseudo_palette__colours_are_far_apart(count: int, least: float) -> None:
    palette = lab(pseudo_palette(count))
    distance = np.linalg.norm(palette[:, None] - palette[None], axis=-1) + 1e6 * np.eye(count)
    assert distance.min() > least


def test_pseudo_palette__longer_ones_go_on_from_shorter_ones() -> None:
    assert np.array_equal(pseudo_palette(60)[:20], pseudo_palette(20))
    assert pseudo_palette(0).shape == (0, 3)
    assert pseudo_palette(5000).shape == (5000, 3)


def test_semantic_to_color__class_colours_and_void() -> None:
    picture = semantic_to_color(np.array([[0, 10], [VOID, 13]], dtype=np.uint8), COLORS)
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[128, 64, 128], [70, 130, 180]], [list(VOID_COLOR), [0, 0, 142]]]


def test_semantic_to_color__more_than_255_classes() -> None:
    palette = pseudo_palette(300)
    picture = semantic_to_color(np.array([[299, 255, 65535]]), palette)
    assert picture[0].tolist() == [palette[299].tolist(), palette[255].tolist(), list(VOID_COLOR)]


@pytest.mark.parametrize("bad", [19, 254, -1])
def test_semantic_to_color__id_without_a_colour(bad: int) -> None:
    with pytest.raises(ValueError, match="do not fit 19 colours"):
        semantic_to_color(np.array([[0, bad]]), COLORS)


def test_panoptic_to_color__instances_are_shades_of_their_class() -> None:
    panoptic = np.stack((np.full((1, 9), CAR), np.arange(9)[None]), axis=-1)
    shades = panoptic_to_color(panoptic, COLORS)[0]
    assert shades[0].tolist() == COLORS[CAR].tolist(), "a thing without instance keeps the class colour"
    assert len({tuple(color) for color in shades}) == 9
    near = lab(shades[1:])
    assert np.linalg.norm(near[:-1] - near[1:], axis=1).min() > 8, "neighbouring numbers differ visibly"
    assert (shades[1:, 2] > shades[1:, 0]).all(), "a shade of blue stays blue"


def test_overlay__void_is_darkened_and_outlines_are_drawn() -> None:
    image = np.full((40, 80, 3), 120, dtype=np.uint8)
    panoptic = np.zeros((40, 80, 2), dtype=np.int64)
    panoptic[:, 40:, 0] = 10
    panoptic[30:, :, 0] = VOID
    panoptic[10:20, 10:20] = (CAR, 1)
    before = image.copy(), panoptic.copy()
    picture = overlay(image, panoptic, COLORS)
    assert picture.shape == image.shape and picture.dtype == np.uint8
    assert (picture[36, 10] < image[36, 10]).all() and len(set(picture[36, 10].tolist())) == 1
    assert picture[10, 15].min() > 190, "light outline of a thing"
    assert picture[5, 40].sum() < picture[5, 45].sum(), "dark line between stuff regions"
    expected = 0.4 * 120 + 0.6 * COLORS[0]
    assert np.abs(picture[25, 5] - expected).max() <= 1
    assert np.array_equal(image, before[0]) and np.array_equal(panoptic, before[1])


def test_overlay__label_of_another_size_is_brought_to_the_image() -> None:
    panoptic = np.zeros((10, 20, 2), dtype=np.int64)
    panoptic[5:] = (10, 0)
    picture = overlay(np.zeros((40, 80, 3), dtype=np.uint8), panoptic, COLORS, alpha=1.0)
    assert picture[2, 2].tolist() == COLORS[0].tolist()
    assert picture[-2, -2].tolist() == COLORS[10].tolist()


def test_instances_to_color__each_object_its_own_colour() -> None:
    ids = np.zeros((10, 40), dtype=np.uint16)
    for number in range(4):
        ids[2:8, 10 * number : 10 * number + 8] = number + 1
    picture = instances_to_color(ids)
    assert picture[9, 9].tolist() == list(VOID_COLOR)
    assert len({tuple(picture[5, 10 * number + 4]) for number in range(4)}) == 4


def test_depth_to_color__near_is_brighter_and_invalid_is_grey() -> None:
    depth = np.geomspace(1, 80, 64)[None].repeat(4, axis=0)
    depth[0, 0], depth[1, 0], depth[2, 0] = 0, np.nan, np.inf
    picture = depth_to_color(depth)
    for row in range(3):
        assert picture[row, 0].tolist() == list(VOID_COLOR)
    brightness = picture[3].astype(int).sum(axis=1)
    assert (np.diff(brightness) <= 2).all() and brightness[1] > 500 and brightness[-2] < 60


@pytest.mark.parametrize("depth", [np.zeros((3, 4)), np.full((3, 4), 7.0, dtype=np.float16)])
def test_depth_to_color__degenerate_maps(depth: np.ndarray) -> None:
    assert depth_to_color(depth).shape == (3, 4, 3)


def tile(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_figure_sheet__even_gutters_and_places() -> None:
    rows = [[tile(50, 400, 10), tile(50, 400, 20)], [tile(100, 400, 30), None]]
    sheet = figure_sheet((), rows)
    assert sheet.shape == (2 * MARGIN + 50 + GUTTER + 100, 2 * MARGIN + 2 * 400 + GUTTER, 3)
    assert sheet[MARGIN + 25, MARGIN + 200, 0] == 10
    assert sheet[MARGIN + 25, MARGIN + 400 + GUTTER + 200, 0] == 20
    assert sheet[MARGIN + 50 + GUTTER + 50, MARGIN + 200, 0] == 30
    assert tuple(sheet[-MARGIN - 50, -MARGIN - 200]) == BACKGROUND, "no picture, no ink"
    assert (sheet[:, :MARGIN] == 255).all() and (sheet[:MARGIN] == 255).all()


def test_figure_sheet__text_adds_bands_with_ink() -> None:
    rows = [[tile(50, 400, 200)] * 2]
    plain = figure_sheet((), rows)
    named = figure_sheet(("image", "prediction"), rows, ("frame_000019",), legend=[("car", (0, 0, 142))] * 60)
    assert named.shape[1] == plain.shape[1] and named.shape[0] > plain.shape[0] + 60
    header = named[MARGIN : MARGIN + 20]
    assert header[:, MARGIN : MARGIN + 400].min() < 100 and header[:, MARGIN + 410 :].min() < 100
    assert (named == (0, 0, 142)).all(axis=-1).sum() > 60 * 100, "legend chips"
    assert (named[:, -MARGIN:] == 255).all(), "the legend is broken into lines"


def test_figure_sheet__pictures_of_many_sizes_share_one_width() -> None:
    sheet = figure_sheet(("a", "b"), [[tile(10, 20, 5), tile(1024, 2048, 6)]], ("x" * 500,))
    assert sheet.shape[1] == 2 * MARGIN + 2 * 640 + GUTTER


def test_figure_sheet__deterministic() -> None:
    rows = [[tile(50, 400, 200)]]
    assert np.array_equal(figure_sheet(("a",), rows), figure_sheet(("a",), rows))


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ([], None, "at least one picture"),
        ([[None]], None, "at least one"),
        ([[tile(9, 9, 1)]], ("a", "b"), "2 row names"),
    ],
)
def test_figure_sheet__bad_input(
    rows: list[list[np.ndarray | None]], names: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        figure_sheet((), rows, names)


def test_caption__writes_into_the_corner_only() -> None:
    image = tile(100, 300, 128)
    picture = caption(image, "prediction")
    assert picture.shape == image.shape
    assert picture[:40].max() > 240 and picture[:40].min() < 80
    assert np.array_equal(picture[50:], image[50:]) and (image == 128).all()
    assert caption(tile(20, 24, 0), "a text far too long").shape == (20, 24, 3)
