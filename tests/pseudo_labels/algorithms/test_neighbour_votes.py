"""Votes by hand, and labels carried along known motion."""

from __future__ import annotations

import cv2
import numpy as np

from pseudo_labels.algorithms.neighbour_votes import carried_labels, flow_size, vote

ALIKE = np.zeros(256, dtype=bool)
THINGS = np.isin(np.arange(256), (7, 8, 9))
ALL = np.ones((1, 1), dtype=bool)


def voted(own: int, *others: int, things: np.ndarray = ALIKE, sure: np.ndarray = ALL) -> int:
    carried = [(np.array([[label]], np.uint8), sure) for label in others]
    return int(vote(np.array([[own]], np.uint8), carried, things)[0, 0])


def test_vote__most_votes_win_and_ties_stay() -> None:
    assert voted(1) == 1
    assert voted(1, 2) == 1
    assert voted(1, 2, 2) == 2
    assert voted(1, 2, 3) == 1
    assert voted(1, 2, 3, 3, 2, 2) == 2
    assert voted(1, 2, 2, sure=~ALL) == 1
    assert voted(255, 2, 2) == 2


def test_vote__the_kind_is_voted_first() -> None:
    assert voted(1, 7, 8, things=THINGS) == 7  # two things against one stuff: the nearer of them
    assert voted(7, 8, 1, 1, things=THINGS) == 7  # two against two: the frame's own kind
    assert voted(9, 1, 2, 2, 9, 3, things=THINGS) == 2  # four of stuff
    assert voted(7, 8, 8, 1, 1, 1, 1, things=ALIKE) == 1


def test_vote__keeps_the_type() -> None:
    labels = np.full((2, 3), 300, np.uint16)
    assert vote(labels, [], np.zeros(400, dtype=bool)).dtype == np.uint16


def texture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(128, 60, (96, 128)).clip(0, 255).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]


def test_carried_labels__follow_the_camera() -> None:
    picture, other = texture(0), np.roll(texture(0), 4, axis=1)
    labels = np.zeros((192, 256), np.uint8)  # twice as large as the pictures
    labels[40:120, 108:168] = 5
    carried, sure = carried_labels(picture, other, labels)
    truth = np.roll(labels, -8, axis=1)
    inside = np.s_[20:-20, 40:-40]
    assert sure[inside].mean() > 0.95 and (carried == truth)[inside].mean() > 0.98


def test_carried_labels__what_an_object_hides_has_fewer_votes() -> None:
    """The block of label 5 stood 8 pixels further left: of the ground that it hid, half has no vote."""
    picture, other = texture(0), texture(0)
    picture[30:70, 50:90] = other[30:70, 42:82] = texture(1)[30:70, 50:90]
    labels = np.zeros(other.shape, np.uint8)
    labels[30:70, 42:82] = 5
    carried, sure = carried_labels(picture, other, labels)
    truth = np.zeros_like(labels)
    truth[30:70, 50:90] = 5
    wrong = carried != truth
    assert sure[34:66, 54:86].mean() > 0.9 and sure[30:70, 42:50].mean() < 0.5
    assert wrong[sure].mean() < 0.7 * wrong.mean() < 0.03


def test_carried_labels__another_scene_has_no_vote() -> None:
    assert not carried_labels(texture(0), texture(1), np.zeros((96, 128), np.uint8))[1].any()


def test_flow_size__is_bounded() -> None:
    assert flow_size((192, 384)) == (192, 384) and flow_size((1024, 2048)) == (320, 640)
