"""Which values a setting takes, and what a refused one is told."""

from __future__ import annotations

import pytest

from cups.allowed import COUNT, CROP, FRACTION, POSITIVE, TEXT, Check, choice, optional


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
    assert optional(POSITIVE).refusal("A.B", "x") == "A.B is 'x'; it must be a number, or None"
