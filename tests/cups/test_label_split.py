"""Which pseudo-classes of training labels are things."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from cups.errors import UserError
from cups.io.file_names import SPLIT_FILE
from cups.io.files import write_json
from cups.label_split import by_thingness, label_split, stated_split, thing_stuff_split
from cups.structures import ThingStuffSplit

ALL, INSIDE = torch.tensor([10.0, 10, 10, 10]), torch.tensor([5.0, 0, 1, 4])
"""Shares 0.5, 0, 0.1, 0.4."""


def test_thing_stuff_split__order_threshold_and_edges() -> None:
    # ratios 0.5, 0, 0.1, 0.4 of a sum of 1
    split = thing_stuff_split(torch.tensor([10.0, 10, 10, 10]), torch.tensor([5.0, 0, 1, 4]), 0.08)
    assert split.things == (0, 3, 2)
    assert split.stuffs == (1,)
    with pytest.raises(UserError, match="no pseudo-class is left as things"):
        thing_stuff_split(torch.ones(3), torch.zeros(3), 0.08)
    # Upstream returns zero things when every class passes the threshold.
    with pytest.raises(UserError, match="no pseudo-class is left as stuff"):
        thing_stuff_split(torch.ones(3), torch.ones(3), 0.08)


def test_one_class__is_told_to_label_the_rest(tmp_path: Path) -> None:
    """Things on a background of void: no threshold helps, and classifying again does not either."""
    one = torch.ones(1)
    with pytest.raises(
        UserError, match="left as stuff; a network needs a background: give what is no object"
    ):
        thing_stuff_split(one, one, 0.08)
    write_json(tmp_path / SPLIT_FILE, {"things": [0], "stuffs": []})
    with pytest.raises(
        UserError, match="left as stuff; a network needs a background: give what is no object"
    ):
        label_split(tmp_path, one, one)


def test_by_thingness__is_the_published_order() -> None:
    assert by_thingness(ALL, INSIDE, range(4)) == (0, 3, 2, 1)
    assert by_thingness(ALL, INSIDE, (1, 2)) == (2, 1)


def test_label_split__labels_without_one_follow_the_published_rule(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert label_split(tmp_path, ALL, INSIDE) == thing_stuff_split(ALL, INSIDE, 0.08)
    assert "published share of 0.08" in caplog.text


def test_label_split__that_of_the_labels_decides_and_keeps_its_order(tmp_path: Path) -> None:
    write_json(tmp_path / SPLIT_FILE, {"things": [1, 0], "stuffs": [2, 3]})
    assert label_split(tmp_path, ALL, INSIDE) == ThingStuffSplit((1, 0), (2, 3))


def test_label_split__a_number_overrides_it_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rule takes 0, 2 and 3 for things: 1 and 3 change sides."""
    write_json(tmp_path / SPLIT_FILE, {"things": [0, 1, 2], "stuffs": [3]})
    with caplog.at_level(logging.WARNING):
        assert label_split(tmp_path, ALL, INSIDE, 0.08).things == (0, 3, 2)
    assert "2 of 4 pseudo-classes change sides (1 3)" in caplog.text


@pytest.mark.parametrize(
    ("things", "stuffs", "message"),
    [
        ([0], [1, 2], "does not name each of the 4"),
        ([0], [1, 2, 3, 4], "does not name each of the 4"),
        ([], [0, 1, 2, 3], "no pseudo-class is left as things"),
        ([0, 1, 2, 3], [], "no pseudo-class is left as stuff"),
    ],
)
def test_stated_split__must_fit_the_labels(
    tmp_path: Path, things: list[int], stuffs: list[int], message: str
) -> None:
    write_json(tmp_path / SPLIT_FILE, {"things": things, "stuffs": stuffs})
    with pytest.raises(UserError, match=message):
        stated_split(tmp_path, 4)
