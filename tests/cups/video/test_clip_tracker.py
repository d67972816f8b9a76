"""The tracker of a clip: frames of any size are followed small, in the memory of a few frames."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cups.categories import Categories
from cups.io.coco_panoptic import segment_boxes
from cups.prediction import PanopticPrediction, Segment
from cups.video import tracks
from cups.video.clip_tracker import ClipTracker
from cups.video.clips import Clip

CATEGORIES = Categories(("road", "car"), np.array([False, True]), np.zeros((2, 3), np.uint8), np.arange(2))


def prediction(time: int, size: tuple[int, int], objects: int = 4) -> PanopticPrediction:
    """Return a street with cars that drive to the right, numbered in another order in each frame."""
    step = size[1] // 64
    texture = np.random.default_rng(0).integers(60, 190, (size[0] // 16, size[1] // 16, 3), dtype=np.uint8)
    image = texture.repeat(16, axis=0).repeat(16, axis=1)
    ids = np.full(size, 1000, np.int32)
    for index in range(objects):
        top, left = (index + 1) * size[0] // (objects + 2), (8 + time) * step
        place = np.s_[top : top + size[0] // (2 * objects), left : left + 12 * step]
        image[place] = 50 * index, 250 - 40 * index, 20 + time % 2
        ids[place] = 2001 + (index + time) % objects
    segments = tuple(
        Segment(one, one // 1000 - 1, "car", one % 1000 > 0, 0.9 if one % 1000 else None, area, box)
        for one, area, box in segment_boxes(ids)
    )
    return PanopticPrediction(ids, segments, CATEGORIES, image)


def tracker(frames: int, folder: Path) -> ClipTracker:
    names = tuple(str(number) for number in range(frames))
    return ClipTracker(Clip(names, tuple(range(frames))), 2, folder / "state.npz")


def test_number__large_frames_are_compared_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1024 x 2048 pixels: flow sees 256 x 512 of them, and no more than two further frames are in memory."""
    sizes = []

    def looked_at(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sizes.append(one.shape)
        return scene_flow(one, other)

    scene_flow = tracks.scene_flow
    monkeypatch.setattr(tracks, "scene_flow", looked_at)
    clip, frames = tracker(3, tmp_path), [prediction(time, (1024, 2048)) for time in range(3)]
    found = [clip.number("0", frames[0]), clip.number("1", frames[1])]
    tracemalloc.start()
    try:
        found.append(clip.number("2", frames[2]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sizes == [(256, 512)] * 2
    assert peak < 2 * (frames[0].ids.nbytes + frames[0].image.nbytes), f"{peak / 2**20:.0f} MB"
    places = [[one.ids[(index + 1) * 1024 // 6 + 9, 600] for index in range(4)] for one in found]
    assert places[0] == places[1] == places[2] and len(set(places[0])) == 4


def test_number__what_is_remembered_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame is another scene with other objects: as many as fit into the numbers are kept."""
    monkeypatch.setattr(tracks, "MEMORY", 10**6)
    monkeypatch.setattr(tracks, "MOST_NUMBERS", 9)
    clip = tracker(30, tmp_path)
    sizes = []
    for time in range(30):
        clip.number(str(time), prediction(3 * (time % 7), (64, 128), objects=1 + time % 3))
        clip.save()
        sizes.append(clip.file.stat().st_size)
    assert max(sizes[20:]) <= max(sizes[:20])
