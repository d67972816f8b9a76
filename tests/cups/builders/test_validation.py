"""Validation is optional: where there is ground truth, where there is none, what is said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cups.builders.validation import check_selection, training_validation
from cups.config import build_config
from cups.errors import UserError

PHOTOS = "photos"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder without ground truth."""
    folder = tmp_path / PHOTOS
    folder.mkdir()
    return folder


def test_training_validation__by_default_the_ground_truth_of_the_data_root(tiny_city: Path) -> None:
    validation = training_validation(build_config(None, (), {"data_root": str(tiny_city)}))
    assert validation is not None and len(validation) == 3


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 2]), (9, [0, 1, 2])])
def test_training_validation__some_frames_spread_over_all(
    tiny_city: Path, count: int, expected: list[int]
) -> None:
    root = {"data_root": str(tiny_city)}
    every = training_validation(build_config(None, (), root))
    some = training_validation(build_config(None, ["TRAINING.NUM_VAL_FRAMES", count], root))
    assert every is not None and some is not None
    assert [frame.stem for frame in some.frames] == [every.frames[index].stem for index in expected]
    assert some[0].name == every[expected[0]].name


def test_training_validation__none_is_said_once(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = build_config(None, (), {"data_root": str(photos)})
    with caplog.at_level(logging.WARNING):
        assert training_validation(config) is None
        assert training_validation(config) is None
    assert len(caplog.messages) == 1 and "no ground truth of the split val" in caplog.text


def test_training_validation__images_of_the_split_alone_are_no_ground_truth(photos: Path) -> None:
    (photos / "leftImg8bit" / "val" / "ulm").mkdir(parents=True)
    for dataset in ("cityscapes", "kitti"):
        pairs = ["DATA.DATASET", dataset]
        assert training_validation(build_config(None, pairs, {"data_root": str(photos)})) is None


def test_training_validation__another_folder_may_hold_it(photos: Path, tiny_city: Path) -> None:
    """The flag names the training images alone: it does not take back what DATA.ROOT_VAL says."""
    pairs = ["DATA.ROOT_VAL", str(tiny_city)]
    assert training_validation(build_config(None, pairs, {"data_root": str(photos)})) is not None


def test_training_validation__a_folder_named_for_it_must_hold_some(photos: Path) -> None:
    config = build_config(None, ["DATA.ROOT_VAL", str(photos)])
    with pytest.raises(UserError, match=rf"{PHOTOS}/leftImg8bit/val: no such.*leave DATA\.ROOT_VAL None"):
        training_validation(config)


def test_check_selection__by_ground_truth_needs_some(photos: Path) -> None:
    config = build_config(None, ["SELF_TRAINING.SELECT", "val"], {"data_root": str(photos)})
    with pytest.raises(UserError, match=r"^SELF_TRAINING\.SELECT is val, but .*; take consistency, or"):
        check_selection(config, None)
    check_selection(config, object())
    check_selection(build_config(), None)
