"""What a network says about one image, by hand."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from cups.categories import Categories, named_categories, pseudo_categories
from cups.io.coco_panoptic import describe_segments, from_rgb
from cups.prediction import PanopticPrediction, prediction_of
from cups.structures import PseudoClasses

PSEUDO = PseudoClasses(things=2, stuffs=3)
FOUND = [
    {"id": 1, "isthing": True, "category_id": 1, "score": 0.9},
    {"id": 2, "isthing": True, "category_id": 1, "score": 0.8},
    {"id": 3, "isthing": False, "category_id": 1},
    {"id": 4, "isthing": False, "category_id": 3},
]
NUMBERS = np.array([[3, 3, 3, 4], [1, 1, 2, 4], [0, 1, 2, 4]], dtype=np.int32)


def predicted(categories: Categories) -> PanopticPrediction:
    return prediction_of(np.zeros((3, 4, 3), np.uint8), NUMBERS, FOUND, categories, PSEUDO)


def test_prediction__maps_and_segments() -> None:
    prediction = predicted(pseudo_categories(PSEUDO))
    assert prediction.semantic.tolist() == [[0, 0, 0, 2], [4, 4, 4, 2], [255, 4, 4, 2]]
    assert prediction.instances.tolist() == [[0, 0, 0, 0], [1, 1, 2, 0], [0, 1, 2, 0]]
    assert prediction.semantic.dtype == np.uint8 and prediction.instances.dtype == np.int32
    first = {segment.id: segment for segment in prediction.segments}[5001]
    assert (first.name, first.isthing, first.score, first.area, first.box) == (
        "thing 1",
        True,
        0.9,
        3,
        (0, 1, 2, 3),
    )
    assert [segment.score for segment in prediction.segments if not segment.isthing] == [None, None]
    assert sum(segment.area for segment in prediction.segments) == 11
    with pytest.raises(FrozenInstanceError):
        prediction.ids = NUMBERS  # type: ignore[misc]


def test_prediction__pseudo_classes_of_one_name_become_one_segment() -> None:
    classes = [("ground", False, (1, 2, 3)), ("car", True, (4, 5, 6))]
    prediction = predicted(named_categories(PSEUDO, classes, [0, 255, 0, 1, 1], {}))
    assert [(segment.name, segment.area) for segment in prediction.segments] == [
        ("ground", 6), ("car", 3), ("car", 2),
    ]  # fmt: skip
    flat = predicted(named_categories(PSEUDO, [("all", False, (0, 0, 0))], [0] * 5, {}))
    assert [(segment.name, segment.isthing, segment.area) for segment in flat.segments] == [
        ("all", False, 11)
    ]


def test_to_coco__describes_its_pixels() -> None:
    png, segments = predicted(pseudo_categories(PSEUDO)).to_coco()
    assert sorted(segments, key=lambda s: s["id"]) == describe_segments(from_rgb(png))


def test_overlay__has_a_legend_below() -> None:
    numbers = np.kron(NUMBERS, np.ones((40, 40), np.int32))
    image = np.full((120, 160, 3), 90, np.uint8)
    prediction = prediction_of(image, numbers, FOUND, pseudo_categories(PSEUDO), PSEUDO)
    plain, whole = prediction.overlay(legend=False), prediction.overlay(width=400)
    assert plain.shape == (120, 160, 3) and plain.dtype == np.uint8
    assert whole.shape[1] == 400 and whole.shape[0] > 320 and (whole[-1] == 255).all()
    colors = {tuple(pixel) for pixel in whole[300:].reshape(-1, 3).tolist()}
    used = [prediction.categories.colors[i].tolist() for i in (0, 2, 4)]
    assert all(tuple(color) in colors for color in used), "the legend shows the colour of each class"
