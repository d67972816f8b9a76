"""The video report's ways to number objects, and its tables, on frames drawn by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.evaluation.folders import open_truth
from cups.io.png import write_png
from cups.labels.label_folders import open_labels
from cups.taxonomy import class_set
from studies.video_scores import WAYS, Disturbed, FrameByFrame, as_counted, objects_of, score_ways

SIZE = (64, 96)


def test_as_counted__falling_area() -> None:
    ids = np.array([[1, 2, 2, 0], [3, 3, 3, 0]])
    category, number = as_counted(np.zeros((2, 4, 3), np.uint8), ids, np.array([5, 6, 7]))
    assert category.tolist() == [5, 6, 7] and number.tolist() == [3, 2, 1]


def test_frame_by_frame__overlap_keeps_a_number() -> None:
    match, picture = FrameByFrame(), np.zeros((1, 8, 3), np.uint8)
    rows = ([1, 1, 1, 0, 0, 2, 2, 2], [0, 2, 2, 2, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0])
    numbers = [match(picture, np.array([row]), np.zeros(max(row), np.int64))[1].tolist() for row in rows]
    assert numbers == [[1, 2], [2, 1], [3]]


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A car that moves by more than its width in front of a road, with its truth."""
    ground = np.random.default_rng(0).integers(60, 120, (*SIZE, 3), dtype=np.uint8)
    images = {}
    for time in range(6):
        image, ids = ground.copy(), np.full(SIZE, 7, np.uint16)
        place = np.s_[20:40, 2 + 15 * time : 14 + 15 * time]
        image[place], ids[place] = (220, 30, 30), 26001
        name = f"a/a_000000_{time:06d}"
        images[name] = tmp_path / "images" / f"{name}.png"
        write_png(images[name], image)
        labels = np.where(ids > 1000, 26, ids).astype(np.uint8)
        write_png(tmp_path / "gt" / f"{name}_gtFine_labelIds.png", labels)
        write_png(tmp_path / "gt" / f"{name}_gtFine_instanceIds.png", ids)
    return tmp_path / "gt", images


def test_score_ways__the_tracker_finds_what_does_not_overlap(clip: tuple[Path, dict[str, Path]]) -> None:
    folder, images = clip
    truth = open_truth(open_labels(folder), class_set(19))
    names = {name: name for name in images}
    disturbed = Disturbed(truth, names)
    assert len(objects_of(truth.read("a/a_000000_000000"))[1]) == 1
    assert all((disturbed.read(n).ids == disturbed.read(n).ids).all() for n in names)
    scores, picture = score_ways(truth, disturbed, images, names)
    assert scores[WAYS[2]]["aq"] > scores[WAYS[1]]["aq"] + 0.2
    assert scores[WAYS[2]]["stq_sq"] == pytest.approx(scores[WAYS[0]]["stq_sq"])
    assert picture.dtype == np.uint8
