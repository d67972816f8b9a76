"""The video report's ways to number objects, and its tables, on frames drawn by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.evaluation.folders import open_truth
from cups.io.png import write_png
from cups.labels.label_folders import open_labels
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import class_set
from cups.video.clips import clips_of
from studies.video_page import page
from studies.video_report import steps
from studies.video_scores import Disturbed, Filmed, WayScores, gain_of_clips
from studies.video_settings import VideoSettings
from studies.video_ways import (
    OVERLAP,
    TRACKER,
    TRUE,
    WAYS,
    FrameByFrame,
    FrameObjects,
    TrueNumbers,
    as_counted,
    objects_of,
)

SIZE = (64, 96)


def frame(ids: list[list[int]], category: list[int], truth: list[list[int]] | None = None) -> FrameObjects:
    """Return a frame; `truth` holds true objects, 0 none."""
    maps = np.array(ids), np.array(truth or ids)
    true = PanopticMap.from_maps((maps[1] > 0).astype(np.int64), maps[1])
    return FrameObjects(np.zeros((*maps[0].shape, 3), np.uint8), maps[0], np.array(category), true)


def test_as_counted__falling_area() -> None:
    category, number = as_counted(frame([[1, 2, 2, 0], [3, 3, 3, 0]], [5, 6, 7]))
    assert category.tolist() == [5, 6, 7] and number.tolist() == [3, 2, 1]


def test_frame_by_frame__overlap_keeps_a_number() -> None:
    match = FrameByFrame()
    rows = ([1, 1, 1, 0, 0, 2, 2, 2], [0, 2, 2, 2, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0])
    numbers = [match(frame([row], [0] * max(row)))[1].tolist() for row in rows]
    assert numbers == [[1, 2], [2, 1], [3]]


def test_true_numbers__the_largest_mask_of_an_object_has_its_number() -> None:
    match = TrueNumbers()
    first = match(frame([[1, 1, 2, 3, 3, 3]], [4, 4, 4], [[7, 7, 7, 9, 9, 0]]))[1]
    assert len(set(first.tolist())) == 3 and first[0] < 10 and first[2] < 10 < first[1]
    second = match(frame([[1, 1, 1, 0, 2, 2]], [4, 4], [[9, 9, 0, 0, 0, 0]]))[1]
    assert second[0] == first[2] and second[1] not in first
    assert match(frame([[0, 0, 0]], []))[1].size == 0


def test_gain_of_clips__students_interval() -> None:
    gain = gain_of_clips([0.1, 0.2, 0.3], [0.2, 0.3, 0.7])
    half = 2.919986 * 0.1  # t of 2 degrees of freedom at 95 %, times the standard error
    np.testing.assert_allclose([gain.gain, gain.low, gain.high], [0.2, 0.2 - half, 0.2 + half], atol=1e-6)
    assert gain.sign == 0 and np.isnan(gain_of_clips([0.1], [0.2]).low)


@pytest.mark.parametrize(("gains", "word"), [((0.1, 0.12), "Holds"), ((0.1, -0.1), "Within chance")])
def test_page__says_what_the_interval_says(gains: tuple[float, float], word: str, tmp_path: Path) -> None:
    total = dict.fromkeys(("stq", "aq", "stq_sq", "vpq", "vpq_things", "pq"), 0.5)
    scores = {way: WayScores(total, [0.3, 0.4]) for way in WAYS}
    scores[TRACKER] = WayScores(total, [0.3 + gains[0], 0.4 + gains[1]])
    checkpoint = tmp_path / "runs" / "demo" / "stage3" / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    text = page(VideoSettings(checkpoint=checkpoint, clips=2), 48, scores, scores)
    assert f"**{word}**: STQ" in text and "+0.0 points (90 % interval +0.0 to +0.0)" in text
    assert "--checkpoint demo/stage3/checkpoints/best.ckpt --clips 2" in text and str(tmp_path) not in text


def test_steps__masks_of_stage_1_or_of_a_network(tmp_path: Path) -> None:
    names = [command.name for command in steps(VideoSettings(output=tmp_path))]
    assert names[0] == "toy streets" and names[-1] == "CUPS format" and len(names) > 5
    network = VideoSettings(output=tmp_path, checkpoint=tmp_path / "best.ckpt")
    command = steps(network)[1]
    assert command.script == "predict.py" and "--no_tracking" in command.arguments
    assert network.masks == tmp_path / "predictions" / "panoptic.json"


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


def test_score__the_tracker_finds_what_does_not_overlap(clip: tuple[Path, dict[str, Path]]) -> None:
    folder, images = clip
    truth = open_truth(open_labels(folder), class_set(19))
    names = {name: name for name in images}
    disturbed = Disturbed(truth, names)
    assert len(objects_of(truth.read("a/a_000000_000000"))[1]) == 1
    assert all((disturbed.read(n).ids == disturbed.read(n).ids).all() for n in names)
    filmed = Filmed(truth, disturbed, clips_of(list(images.items())), images, names)
    scores = filmed.score()
    assert scores[TRACKER].total["aq"] > scores[OVERLAP].total["aq"] + 0.2
    assert scores[TRUE].total["aq"] >= scores[TRACKER].total["aq"]
    assert len({round(one.total["stq_sq"], 9) for one in scores.values()}) == 1
    assert all(one.stq == [pytest.approx(one.total["stq"])] for one in scores.values()), "one clip is all"
    pictures = filmed.pictures(filmed.clips[0], 3, [TRACKER])
    assert [len(row) for row in pictures] == [2, 2, 2]
