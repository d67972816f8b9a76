"""A share of ground truth as training samples."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.data import CityscapesPanopticValidation, GroundTruthFrames
from cups.data.ground_truth import labelled_share
from cups.errors import UserError
from cups.structures import Draw
from cups.taxonomy import WIDE_VOID, class_set


def test_labelled_share__seeded_nested_and_never_empty() -> None:
    shares = [labelled_share(300, fraction, 7) for fraction in (0.001, 0.01, 0.1, 1.0)]
    assert [len(share) for share in shares] == [1, 3, 30, 300]
    assert all(set(less) < set(more) and more == sorted(more) for less, more in pairwise(shares))
    assert labelled_share(300, 0.1, 7) == shares[2] != labelled_share(300, 0.1, 8)


def _frames(city: Path, **options: object) -> GroundTruthFrames:
    truth = CityscapesPanopticValidation(city, "train", 19)
    return GroundTruthFrames(truth, scale=1.0, crop=(96, 192), ignore_unknown_things=False, **options)


def test_ground_truth_frames__samples_are_the_ground_truth(tiny_city: Path) -> None:
    """Counted from the maps that the evaluation reads, class by class and object by object."""
    truth = CityscapesPanopticValidation(tiny_city, "train", 19)
    frames = _frames(tiny_city)
    assert len(frames) == len(truth) == frames.available and frames.fit.canvas == (96, 192)
    classes = class_set(19)
    for index in range(len(frames)):
        sample, item = frames.load(index), truth[index]
        assert sample.name == item.name and torch.equal(sample.image, item.image)
        category, instance = (
            torch.from_numpy(part) for part in (item.target.categories, item.target.instances)
        )
        for channel, number in enumerate(classes.stuffs, start=1):
            assert torch.equal(sample.sem_seg == channel, category == number)
        things = torch.isin(category, torch.tensor(classes.things))
        assert torch.equal(sample.sem_seg == 0, things)
        assert torch.equal(sample.sem_seg == WIDE_VOID, category == 255)
        ids = instance[things & (instance > 0)].unique()
        assert len(sample.masks) == len(ids)
        for mask, thing in zip(sample.masks, sample.classes, strict=True):
            (number,) = instance[mask].unique()
            assert torch.equal(mask, instance == number)
            assert (category[mask] == classes.things[thing]).all()


def test_ground_truth_frames__counts_and_shares(tiny_city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = CityscapesPanopticValidation(tiny_city, "train", 19)
    whole = _frames(tiny_city)
    expected = sum(
        np.bincount(truth[i].target.categories.ravel(), minlength=256)[:19] for i in range(len(truth))
    )
    assert whole.all_pixels.tolist() == expected.tolist()
    one = _frames(tiny_city, fraction=0.01)
    assert len(one) == 1 and one.stems[0] in whole.stems and one.available == len(whole)
    assert torch.equal(one.load(0).image, whole.load(whole.stems.index(one.stems[0])).image)
    rest, held = whole.hold_out(1)
    assert len(held) == min(1, len(whole) // 4) or len(rest) == len(whole)
    part = _frames(tiny_city)
    assert part.all_pixels.sum() == whole.all_pixels.sum()
    monkeypatch.setattr("cups.data.labelled_frames.held_out_indices", lambda *_: [0])
    rest, _ = part.hold_out(1)
    assert rest.all_pixels.sum() < part.all_pixels.sum(), "pixels that were counted before, too"
    assert one[Draw(0, 5)].name == one.stems[0]


def test_ground_truth_frames__another_size_than_the_image(
    tiny_city: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = _frames(tiny_city)
    small = frames._target(frames.stems[0]).resized((48, 96))
    monkeypatch.setattr(frames, "_target", lambda _: small)
    with pytest.raises(UserError, match="its ground truth has another size"):
        frames.load(0)
