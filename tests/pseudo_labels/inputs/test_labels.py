"""Files of the thing/stuff split."""

from __future__ import annotations

from typing import Any

import pytest

from cups.errors import UserError
from pseudo_labels.inputs.labels import read_split


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "not valid JSON"),
        ("{}", "is not a thing/stuff split"),
        ('{"things": 3, "stuffs": []}', "is not a thing/stuff split"),
        ("[]", "holds no JSON object"),
    ],
)
def test_read_split__damaged_file(tmp_path: Any, text: str, reason: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"split\.json: {reason}.*classify_stuff_things\.py"):
        read_split(path)


def test_read_split__class_in_both_lists(tmp_path: Any) -> None:
    path = tmp_path / "split.json"
    path.write_text('{"things": [1, 2], "stuffs": [0, 2]}')
    with pytest.raises(UserError, match="class 2 is both"):
        read_split(path)
