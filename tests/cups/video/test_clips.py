"""Clips among the images that a user gives."""

from __future__ import annotations

from pathlib import Path

from cups.io.video_writer import write_video
from cups.video.clips import Clip, clip_places, clips_of


def images(*names: str) -> list[tuple[str, Path]]:
    return [(name, Path("in") / f"{name}.png") for name in names]


def test_clips_of__numbers_in_a_folder() -> None:
    found = clips_of(images("a/f10", "a/f11", "a/f9", "b/f10", "b/f12", "photo", "x1"))
    assert found == [Clip(("a/f9", "a/f10", "a/f11"), (9, 10, 11)), Clip(("b/f10", "b/f12"), (10, 12))]


def test_clips_of__a_long_gap_parts_a_clip() -> None:
    assert clips_of(images("f1", "f2", "f30", "f31", "f99")) == [
        Clip(("f1", "f2"), (1, 2)),
        Clip(("f30", "f31"), (30, 31)),
    ]


def test_clips_of__sequences_of_cityscapes_are_told_apart() -> None:
    names = [f"a_{sequence:06d}_000019" for sequence in range(3)]
    assert clips_of(images(*names)) == []
    assert clips_of(images(*names, "a_000001_000020")) == [
        Clip(("a_000001_000019", "a_000001_000020"), (19, 20))
    ]


def test_clips_of__frames_that_are_counted_twice() -> None:
    vps = [
        f"{clip:04d}_{5 * clip + i:04d}_a_000000_{19 + 100 * clip + 5 * i:06d}"
        for clip in (0, 1)
        for i in range(3)
    ]
    dvps = [f"{clip:06d}_{i:06d}_a_000168_{19 + i:06d}_gtFine" for clip in (0, 1) for i in range(3)]
    for names in (vps, dvps):
        assert [clip.names for clip in clips_of(images(*names))] == [tuple(names[:3]), tuple(names[3:])]


def test_clip_places__single_frames_are_clips() -> None:
    assert clip_places(["a/1", "b/7", "a/2"]) == [(0, 0), (2, 0), (0, 1)]


def test_clips_of__what_tells_no_order_is_no_clip() -> None:
    assert clips_of(images("house", "street")) == []
    two_formats = [("f1", Path("in/f1.png")), ("f1_2", Path("in/f1.jpg")), ("f2", Path("in/f2.png"))]
    assert clips_of(two_formats) == []


def test_clips_of__videos_of_one_name_do_not_mix(tmp_path: Path) -> None:
    import numpy as np

    found = []
    for folder in ("one", "two"):
        write_video(tmp_path / folder / "clip.mp4", [np.zeros((32, 32, 3), np.uint8)] * 2, 10)
        found += [
            (f"{folder}/clip/{number:06d}", tmp_path / folder / "clip.mp4" / f"{number:06d}")
            for number in range(2)
        ]
    assert [clip.names[0] for clip in clips_of(found)] == ["one/clip/000000", "two/clip/000000"]
