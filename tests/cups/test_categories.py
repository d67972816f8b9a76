"""Names of pseudo-classes: beside a checkpoint, by hand, or none."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from cups.categories import load_categories, names_file, save_names
from cups.errors import UserError
from cups.structures import PseudoClasses
from cups.taxonomy import class_set

PSEUDO = PseudoClasses(things=2, stuffs=3)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"weights")
    return path


def test_load_categories__numbers_without_names(checkpoint: Path) -> None:
    found = load_categories(checkpoint, PSEUDO)
    assert found.names == ("stuff 0", "stuff 1", "stuff 2", "thing 0", "thing 1")
    assert found.is_thing == (False,) * 3 + (True,) * 2 and found.table.tolist() == [0, 1, 2, 3, 4]
    assert found.provenance == {"uses_ground_truth": False}


def test_save_names__read_back_with_their_provenance(checkpoint: Path) -> None:
    path = save_names(checkpoint, class_set(19), [0, 10, 0, 13, 255], {"uses_ground_truth": True})
    assert path == names_file(checkpoint) and path.name == "last.names.json"
    found = load_categories(checkpoint, PSEUDO)
    assert [found.names[index] for index in found.table] == ["road", "sky", "road", "car", "thing 1"]
    assert [found.is_thing[index] for index in found.table] == [False, False, False, True, True]
    assert found.colors[found.table[3]].tolist() == [0, 0, 142] and len(found.names) == 20
    assert found.provenance == {"uses_ground_truth": True, "file": "last.names.json"}


def test_load_categories__names_of_another_checkpoint(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_names(checkpoint, class_set(19), [0, 10, 0, 13, 255], {})
    checkpoint.write_bytes(b"trained on")
    with caplog.at_level(logging.WARNING):
        assert load_categories(checkpoint, PSEUDO).names[0] == "stuff 0"
    assert "belongs to another checkpoint, left aside" in caplog.text
    with pytest.raises(UserError, match="names the classes of another checkpoint"):
        load_categories(checkpoint, PSEUDO, path)


@pytest.mark.parametrize(
    "change", [{"assignment": [0]}, {"assignment": [0, 1, 2, 3, 19]}, {"classes": [1]}, {"checkpoint": 1}]
)
def test_load_categories__a_damaged_file_is_one_line(checkpoint: Path, change: dict[str, object]) -> None:
    path = save_names(checkpoint, class_set(19), [0, 10, 0, 13, 255], {})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=r"last\.names\.json: .*write it again"):
        load_categories(checkpoint, PSEUDO)


def test_load_categories__by_hand(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "names.yaml"
    file.write_text("stuff 0: road\nstuff 2: road\nthing 1: car\n")
    found = load_categories(checkpoint, PSEUDO, file)
    assert [found.names[index] for index in found.table] == ["road", "stuff 1", "road", "thing 0", "car"]
    assert found.table[0] == found.table[2] and found.provenance["source"] == "given by hand"
    for text, message in (
        ("thing 7: car", "names thing 7, which the network lacks; it has stuff 0 to 2"),
        ("car", "holds no names; a line looks like"),
        ("a: [", "not valid YAML"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            load_categories(checkpoint, PSEUDO, file)
