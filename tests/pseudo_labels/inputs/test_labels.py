"""Files of the thing/stuff split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cups.errors import UserError
from cups.io.files import write_json
from pseudo_labels.inputs.labels import find_things, read_split, split_beside, thing_classes
from pseudo_labels.steps.frames import Folder


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


EARLIER = {"stuff_ids": [0, 1, 3], "thing_ids": [2, 4], "classification": {}, "statistics": {}}
"""`stuff_things.json` as earlier versions of the pipeline wrote it."""


def test_read_split__file_of_earlier_versions(tmp_path: Path) -> None:
    write_json(tmp_path / "stuff_things.json", EARLIER)
    split = read_split(tmp_path / "stuff_things.json")
    assert (split.things, split.stuffs) == ((2, 4), (0, 1, 3))
    write_json(tmp_path / "half.json", {"thing_ids": [2]})
    with pytest.raises(UserError, match=r"half\.json: is not a thing/stuff split"):
        read_split(tmp_path / "half.json")


def test_find_things__file_of_earlier_versions_beside_the_semantics(tmp_path: Path) -> None:
    """It counts where ours is missing, or where it is named."""
    semantics = Folder(tmp_path, "pseudo_semantic_raw_k5", ".png")
    assert split_beside(semantics).name == "thing_stuff_split.json"
    earlier = semantics.directory / "stuff_things.json"
    write_json(earlier, EARLIER)
    assert find_things(semantics) == (2, 4)
    write_json(semantics.directory / "thing_stuff_split.json", {"things": [1], "stuffs": [0, 2, 3, 4]})
    assert find_things(semantics) == (1,)
    assert find_things(semantics, split_json=earlier) == (2, 4)


def test_thing_classes__an_id_beyond_the_classes_is_named(tmp_path: Path) -> None:
    """`--thing_classes 99` of six clusters found nothing, after all images had been read."""
    semantics = Folder(tmp_path, "pseudo_semantic_raw_k6", ".png")
    assert thing_classes(semantics, (5, 0)) == (5, 0)
    with pytest.raises(UserError, match=r"^`thing_classes`: 99 is no pseudo-class, there are 6 in .*raw_k6$"):
        thing_classes(semantics, (1, 99))
