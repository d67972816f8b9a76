"""Films are told from photos that a camera numbered, and only a few images are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cups.io.png import write_png
from cups.io.video_writer import write_video
from cups.video import films
from cups.video.films import films_of

SIZE = (64, 96)


def photo(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    return cv2.resize(rough, size[::-1], interpolation=cv2.INTER_CUBIC)


def folder(path: Path, frames: dict[str, np.ndarray]) -> list[tuple[str, Path]]:
    for name, picture in frames.items():
        write_png(path / f"{name}.png", picture)
    return [(name, path / f"{name}.png") for name in frames]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that were read."""
    read: list[Path] = []
    monkeypatch.setattr(films, "read_image", lambda path, of=films.read_image: read.append(path) or of(path))
    return read


@pytest.fixture
def drive(film: Any) -> list[np.ndarray]:
    """Six frames of a moving block."""
    return [picture for picture, _ in film([(20, 10, 30, 40, 0, 5, 200, 60, 50)]).frames(6)]


def test_films_of__numbered_frames_and_photos(
    tmp_path: Path, drive: list[np.ndarray], looked: list[Path]
) -> None:
    frames = folder(tmp_path, {f"drive_{i:03d}": picture for i, picture in enumerate(drive)})
    photos = folder(tmp_path, {f"IMG_{i:04d}": photo(i) for i in range(30)})
    assert [clip.names for clip in films_of([*photos, *frames])] == [tuple(name for name, _ in frames)]
    assert len(looked) == 4 * films.LOOKED_AT, "of each series, three pairs"


def test_films_of__one_cut_or_unreadable_frame_does_not_end_a_film(
    tmp_path: Path, drive: list[np.ndarray]
) -> None:
    cut = folder(tmp_path / "cut", {f"f{i}": picture for i, picture in enumerate([photo(0), *drive])})
    assert len(films_of(cut)) == 1
    broken = folder(tmp_path / "broken", {f"f{i}": picture for i, picture in enumerate(drive)})
    broken[1][1].write_bytes(b"no image")
    assert len(films_of(broken)) == 1
    for _, path in broken:
        path.write_bytes(b"no image")
    assert films_of(broken) == []


def test_films_of__other_sizes_are_other_scenes(tmp_path: Path) -> None:
    white = np.full((*SIZE, 3), 255, np.uint8)
    same = folder(tmp_path / "same", {f"f{i}": white for i in range(4)})
    turned = folder(tmp_path / "turned", {f"f{i}": white if i % 2 else white[:, :40] for i in range(4)})
    assert len(films_of(same)) == 1 and films_of(turned) == []


def test_films_of__parts_of_a_series_are_decided_together(tmp_path: Path, looked: list[Path]) -> None:
    """Sets like COCO number photos with gaps, and have many small runs of numbers."""
    photos = folder(tmp_path, {f"{20 * i + j:012d}": photo(2 * i + j) for i in range(10) for j in (0, 1)})
    assert films_of(photos) == [] and len(looked) == 2 * films.LOOKED_AT


def test_films_of__a_video_is_taken_without_a_look(tmp_path: Path, looked: list[Path]) -> None:
    write_video(tmp_path / "clip.mp4", [photo(i) for i in range(3)], 10)
    frames = [(f"clip/{i:06d}", tmp_path / "clip.mp4" / f"{i:06d}") for i in range(3)]
    assert len(films_of(frames)) == 1 and looked == []
    assert films_of(frames[:1]) == [], "one frame is no clip"
