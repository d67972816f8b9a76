"""Protocols: fixed values of published ones, one-line strings, refusals."""

from __future__ import annotations

import dataclasses

import pytest

from cups.metrics.protocol import NAMED, Protocol, check_void_rule


def test_named__published_protocol() -> None:
    protocol = NAMED["cups-panoptic-19"]
    assert (protocol.num_classes, protocol.size, protocol.crop) == (19, None, None)
    assert (protocol.matching, protocol.void_rule, protocol.task) == ("separate", "upstream", "panoptic")
    assert protocol.classes.things == tuple(range(11, 19))
    assert NAMED["panoptic-19"] == dataclasses.replace(protocol, name="panoptic-19", void_rule="standard")


def test_named__keys() -> None:
    assert set(NAMED) == {
        "cups-panoptic-19",
        "panoptic-19",
        "cups-panoptic-27-train",
        "semantic-27-crop320",
        "toy-19",
    }
    assert all(name == protocol.name for name, protocol in NAMED.items())


def test_str__one_distinct_line_that_says_what_changes_the_number() -> None:
    lines = [str(protocol) for protocol in NAMED.values()]
    assert len(set(lines)) == len(lines) and not any("\n" in line for line in lines)
    assert "27 classes" in str(NAMED["semantic-27-crop320"]) and "320x320" in str(
        NAMED["semantic-27-crop320"]
    )
    assert "512x1024" in str(NAMED["cups-panoptic-27-train"])
    assert "upstream void rule" in str(NAMED["cups-panoptic-19"])
    assert "standard void rule" in str(NAMED["toy-19"])


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 20},
        {"void_rule": "kind"},
        {"matching": "greedy"},
        {"task": "depth"},
        {"crop": 0},
        {"size": (0, 5)},
        {"scale": 0},
    ],
)
def test_protocol__impossible_value(change: dict) -> None:
    with pytest.raises(
        ValueError, match=str(next(iter(change.values())) if "size" not in change else "size")
    ):
        Protocol("x", **change)


def test_check_void_rule__names_the_choices() -> None:
    with pytest.raises(ValueError, match="standard, upstream"):
        check_void_rule("none")
