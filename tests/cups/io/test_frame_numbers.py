"""Clips and neighbours from names of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from cups.io.frame_numbers import places_in_clips


def _places(*names: str) -> list[tuple[str, int]]:
    images = [(Path(name).parent, Path(name)) for name in names]
    return [(str(clip), place) for clip, place in places_in_clips(images)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("f9.png", "f10.png", "f12.png"), [("f", 9), ("f", 10), ("f", 12)]),
        (("a/1.png", "b/2.png"), [("a", 1), ("b", 2)]),
        (("clip.mp4/000000", "clip.mp4/000001"), [("clip.mp4", 0), ("clip.mp4", 1)]),
        (("cam1_19_rgb.png", "cam2_19_rgb.png"), [("cam_19_rgb", 1), ("cam_19_rgb", 2)]),
        (
            ("cam1_19.png", "cam1_20.png", "cam2_19.png"),
            [("cam1_", 19), ("cam1_", 20), ("cam2_", 19)],
        ),
        (
            ("a_000000_000019_leftImg8bit.png", "a_000000_000020_leftImg8bit.png"),
            [("a_000000__leftImg8bit", 19), ("a_000000__leftImg8bit", 20)],
        ),
        (("v1.png", "v6.png", "v11.png", "v21.png"), [("v", 0), ("v", 1), ("v", 2), ("v", 4)]),
        (("t100.png", "t201.png", "t299.png", "t402.png"), [("t", 0), ("t", 1), ("t", 2), ("t", 3)]),
        (("house.png", "street.png"), [(".", 0), (".", 1)]),
        (("v1.png", "v9.png"), [("v", 1), ("v", 9)]),
        (("7.png",), [(".", 7)]),
        (("shot #1.png", "shot #2.png"), [("shot #", 1), ("shot #", 2)]),
    ],
)
def test_places_in_clips__by_names(names: tuple[str, ...], expected: list[tuple[str, int]]) -> None:
    assert _places(*names) == expected


def test_places_in_clips__an_uneven_gap_parts_a_clip() -> None:
    places = [place for _, place in _places("t0.png", "t100.png", "t200.png", "t350.png", "t450.png")]
    assert places[:3] == [0, 1, 2] and places[3] - places[2] > 2 and places[4] - places[3] == 1


def test_places_in_clips__two_files_of_one_number() -> None:
    with pytest.raises(UserError, match=r"^f01\.png: the same number as f1\.png in one clip; rename one$"):
        _places("f1.png", "f01.png")
