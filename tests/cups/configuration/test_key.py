"""Rows of the configuration: what they accept, and what they say about it."""

from __future__ import annotations

import pytest

from cups.backbones.registry import NETWORKS, REGISTRY
from cups.config_keys import KEYS
from cups.configuration.key import COUNT, CROP, FRACTION, POSITIVE, TEXT, Check, choice, optional
from cups.metrics.protocol import VOID_RULES


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (POSITIVE, [1, 0.1], [0, -1, "1", None, True]),
        (FRACTION, [0, 1, 0.5], [1.1, -0.1, "0.5"]),
        (COUNT, [1, 7], [0, 1.0, True, None]),
        (CROP, [(32, 64), [64, 64]], [(31, 64), (64,), 64, "64", (64.0, 64)]),
        (choice(("a", "b")), ["a"], ["c", None, 1]),
        (optional(COUNT), [None, 1], [0, "None"]),
        (optional(TEXT), [None, "a"], [1]),
    ],
)
def test_check__accepts(check: Check, good: list[object], bad: list[object]) -> None:
    assert [value for value in good if check.refusal("A.B", value)] == []
    assert [value for value in bad if not check.refusal("A.B", value)] == []


def test_check__refusal_names_key_value_and_fix() -> None:
    assert POSITIVE.refusal("A.B", 0) == "A.B is 0; it must be above 0"
    assert choice(("a", "b")).refusal("A.B", "c") == "A.B is 'c'; choose from a, b"
    assert optional(POSITIVE).refusal("A.B", "x") == "A.B is 'x'; it must be a number above 0, or None"


@pytest.mark.parametrize("name", KEYS)
def test_keys__default_is_allowed_and_meaning_is_a_sentence(name: str) -> None:
    key = KEYS[name]
    assert key.check.refusal(name, key.default) is None
    assert key.meaning.endswith((".", "...")) and "\n" not in key.meaning and key.check.allowed


def test_keys__choices_are_those_of_the_code() -> None:
    assert KEYS["MODEL.BACKBONE_TYPE"].check.allowed == ", ".join(("resnet50", *REGISTRY))
    assert set(REGISTRY) == {"texton", *NETWORKS}
    assert KEYS["VALIDATION.VOID_RULE"].check.allowed == ", ".join(VOID_RULES)
