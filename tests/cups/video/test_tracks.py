"""Objects of little films are followed; what is lost and found is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cups.metrics import VideoQualitySemanticMatching
from cups.video import tracks
from cups.video.tracks import Objects, TrackState, follow, working_size

RED, BLUE, GREY = (200, 60, 50), (50, 70, 210), (140, 140, 140)
CATEGORIES = 3


def objects(ids: np.ndarray, categories: dict[int, int] | None = None) -> tuple[Objects, list[int]]:
    """Return the objects of a map of truth, in a shuffled order, and the truth of each."""
    truth = [int(value) for value in np.unique(ids) if value]
    truth = truth[::-1]
    small = np.zeros_like(ids)
    for place, value in enumerate(truth, start=1):
        small[ids == value] = place
    category = np.array([(categories or {}).get(value, 1) for value in truth], dtype=np.int64)
    return Objects(small, category, np.ones(len(truth))), truth


def followed(frames: Any, **options: Any) -> list[dict[int, int]]:
    """Return {true object: number} of each frame."""
    state, numbers = None, []
    for picture, ids in frames:
        state = state or TrackState.empty(ids.shape, CATEGORIES)
        found, truth = objects(ids, **options)
        state, rows = follow(state, picture, found)
        numbers.append(dict(zip(truth, state.number[rows].tolist(), strict=True)))
    return numbers


def test_follow__each_object_keeps_its_number(film: Any) -> None:
    moving = film(
        [(10, 10, 20, 30, 0, 6, *RED), (60, 120, 24, 24, -1, -7, *BLUE), (40, 60, 12, 12, 2, 0, *RED)]
    )
    numbers = followed(moving.frames(8))
    assert len(numbers[0]) == 3 and sorted(numbers[0].values()) == [1, 2, 3]
    assert all(frame == numbers[0] for frame in numbers)


def test_follow__fast_objects_that_do_not_overlap_themselves(film: Any) -> None:
    """From frame to frame the masks share no pixel: flow alone tells."""
    moving = film([(30, 5, 16, 14, 0, 16, *RED), (60, 140, 16, 14, 0, -16, *RED)])
    numbers = followed(moving.frames(6))
    assert all(frame == numbers[0] for frame in numbers)


def test_follow__behind_another_and_back(film: Any) -> None:
    """The first block passes behind a wider one and is not seen for some frames."""
    moving = film([(40, 10, 14, 16, 0, 8, *RED), (20, 50, 60, 40, 0, 0, *BLUE)])
    numbers = followed(moving.frames(15))
    hidden = [1 not in frame for frame in numbers]
    assert 1 <= sum(hidden) <= tracks.MEMORY and not hidden[0] and not hidden[-1]
    assert {frame[1] for frame in numbers if 1 in frame} == {numbers[0][1]}


def test_follow__a_mask_that_was_missed_is_carried_on(film: Any) -> None:
    """It turns back while nothing finds it: flow knows where it is, its speed of before does not."""
    picture_of = film([(30, 10, 30, 30, 0, 4, *RED), (70, 120, 12, 12, 0, 0, *BLUE)]).frame
    frames = [picture_of(time) for time in (10, 11, 12, *range(11, 3, -1))]
    for _, ids in frames[3:-1]:
        ids[ids == 1] = 0
    numbers = followed(frames)
    assert [1 in frame for frame in numbers] == [True] * 3 + [False] * 7 + [True]
    assert numbers[-1] == numbers[0]


def test_follow__another_category_of_the_same_place_is_one_object(film: Any) -> None:
    moving = film([(30, 20, 24, 24, 0, 3, *RED)])
    state, numbers = TrackState.empty((96, 160), CATEGORIES), []
    for time, (picture, ids) in enumerate(moving.frames(4)):
        ids[:, 28 + 3 * time if time % 2 else 160 :] = 0  # every second mask is a third
        state, rows = follow(state, picture, objects(ids, {1: 1 + time % 2})[0])
        numbers.append(int(state.number[rows[0]]))
    assert numbers == [1, 1, 1, 1]


def test_follow__is_forgotten_in_time(film: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks, "MEMORY", 0)
    moving = film([(40, 10, 14, 16, 0, 8, *RED), (20, 50, 60, 40, 0, 0, *BLUE)])
    numbers = followed(moving.frames(15))
    assert len({frame[1] for frame in numbers if 1 in frame}) == 2


def test_follow__a_wrong_category_now_and_then_is_outvoted(film: Any) -> None:
    moving = film([(30, 20, 24, 24, 0, 3, *RED)])
    state, said = TrackState.empty((96, 160), CATEGORIES), []
    for time, (picture, ids) in enumerate(moving.frames(6)):
        found, _ = objects(ids, {1: 2 if time == 3 else 1})
        state, rows = follow(state, picture, found)
        said.append((int(state.number[rows[0]]), int(state.votes[rows[0]].argmax())))
    assert said == [(1, 1)] * 6


def test_follow__nothing_is_one_object_across_a_cut(film: Any) -> None:
    first = film([(30, 20, 24, 24, 0, 3, *RED)])
    second = film([(30, 20, 24, 24, 0, 3, *BLUE)])
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    second.ground = noise
    frames = [*first.frames(2), *list(second.frames(4))[2:]]
    assert [frame[1] for frame in followed(frames)] == [1, 1, 2, 2]


def test_follow__frames_without_objects(film: Any) -> None:
    assert followed(film([]).frames(3)) == [{}, {}, {}]


def test_follow__numbers_begin_anew_when_all_are_used(film: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks, "MOST_NUMBERS", 3)
    still = film([(30, 20, 24, 24, 0, 0, *RED)])
    passing = [
        film([(30, 20, 24, 24, 0, 0, *RED), (50, 60 * place, 20, 20, 0, 0, *BLUE)]).frame(0)
        for place in (0, 1, 2, 0, 1)
    ]
    numbers = followed([still.frame(0), *passing])
    assert {frame[1] for frame in numbers} == {1}
    assert [frame.get(2) for frame in numbers[1:]] == [2, 3, 2, 3, 2]


def test_follow__quality_of_tracks_on_noisy_detections(film: Any) -> None:
    """Detections miss objects and are shifted: STQ is above that of matching frame by frame."""
    moving = film(
        [(8, 10, 18, 22, 0, 7, *RED), (60, 130, 20, 20, -1, -8, *BLUE), (36, 30, 14, 16, 1, 9, *GREY)]
    )
    scores = {}
    for name, memory in (("tracks", tracks.MEMORY), ("frames", 0)):
        rng, metric = np.random.default_rng(0), VideoQualitySemanticMatching([1], [0], 2)
        state, before = TrackState.empty((96, 160), CATEGORIES), None
        last = 0
        for time, (picture, truth) in enumerate(moving.frames(12)):
            ids = np.where(np.isin(truth, np.flatnonzero(rng.random(4) < 0.2)), 0, truth)
            ids = np.roll(ids, rng.integers(-2, 3, 2), (0, 1))
            found, _ = objects(ids)
            if memory:
                state, rows = follow(state, picture, found)
                number = state.number[rows]
            else:  # the same place in the frame before, without flow or memory
                number = np.zeros(len(found.category), np.int64)
                for place in range(1, len(number) + 1):
                    under = before[found.ids == place] if before is not None else np.zeros(1, np.int64)
                    likely = np.bincount(under).argmax()
                    last += likely == 0 or likely in number
                    number[place - 1] = last if likely == 0 or likely in number else likely
                before = np.append(0, number)[found.ids]
            predicted = np.append(0, number)[found.ids]
            pair = [
                torch.from_numpy(np.stack(((m > 0).astype(np.int64), m), -1))[None]
                for m in (predicted, truth.astype(np.int64))
            ]
            metric.update_frames(*pair, 0, [time])
        scores[name] = float(metric.compute()["stq"])
    assert scores["tracks"] > scores["frames"] + 0.2 and scores["tracks"] > 0.6, scores


@pytest.mark.parametrize(
    ("size", "expected"), [((192, 384), (192, 384)), ((1024, 2048), (256, 512)), ((1, 9000), (1, 512))]
)
def test_working_size__keeps_the_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(size) == expected
