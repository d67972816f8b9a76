"""Descriptions of data sets: what they give, and each way to write one wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from cups.set_files import Channels, Encoding, find_set, is_set_name, read_set_file, shipped_names
from cups.taxonomy import load_class_set

GOOD = """
layout:
  images: "pictures/{split}/{frame}.jpg"
  labels: ["a/{split}/{frame}.png", "b/{frame}.png"]
splits: {val: holdout}
reader: {category: "(R + 256 G) // 1000", instance: 256*B+A, crowd: G & 3}
classes: mine-{classes}.yaml
frames: {val: 12}
published: {method: we, pq: 12.5, source: here}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_read_set_file__a_file(tmp_path: Path) -> None:
    described = read_set_file(write(tmp_path / "farm.yaml", GOOD))
    assert (described.name, described.title, described.folder) == ("farm",) * 3
    assert described.reader == Encoding(
        Channels({"R": 1, "G": 256}, "//", 1000), Channels({"B": 256, "A": 1}), Channels({"G": 1}, "&", 3)
    )
    assert described.split_folder("val") == "holdout" and described.split_folder("train") == "train"
    assert described.class_file(19) == "mine-19.yaml"
    write(tmp_path / "mine-19.yaml", "")
    assert described.class_file(19) == str(tmp_path / "mine-19.yaml"), "a class file beside it"
    assert described.published[0].pq == 12.5 and described.frames == {"val": 12}


@pytest.mark.parametrize("name", shipped_names())
def test_shipped__classes_exist_and_downloads_are_told(name: str) -> None:
    described = find_set(name)
    assert described.name == name and described.title
    assert described.download or name == "coco-panoptic"
    if described.classes:
        assert load_class_set(described.class_file(19)).num_classes in (2, 19, 27)


def test_shipped__published_numbers_are_those_of_cups() -> None:
    """Table 1 of its README: CUPS, and the best before."""
    told = {name: tuple(one.pq for one in find_set(name).published) for name in shipped_names()}
    assert {name: numbers for name, numbers in told.items() if numbers} == {
        "cityscapes": (27.8, 18.4), "kitti": (25.5, 20.6), "bdd": (19.9, 15.8),
        "muses": (24.4, 20.3), "waymo": (26.4, 19.8), "mots": (67.8, 50.7),
    }  # fmt: skip


def test_find_set__unknown(tmp_path: Path) -> None:
    assert is_set_name("bdd") and is_set_name("mine.yaml") and not is_set_name("bbd")
    with pytest.raises(UserError, match="bbd: no such data set; choose from bdd, cityscapes"):
        find_set("bbd")
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        find_set(tmp_path / "none.yaml")


LAYOUT = "layout: {images: '{frame}.jpg', labels: '{frame}.png'}\n"
READER = "reader: {category: R}\n"
WRONG = {
    "a: [": "not valid YAML",
    "[1]": "describes no data set",
    f"{LAYOUT}{READER}layuot: 1": "unknown key layuot; known are name, title",
    READER: "'layout' is None",
    LAYOUT: "'reader' is None; it must be cityscapes or coco, or say what channels hold",
    f"layout: cityscapes\n{READER}": "the layout of cityscapes has its own reader",
    f"layout: {{images: '{{frame}}.jpg'}}\n{READER}": "layout.labels is missing",
    f"layout: {{images: 'a.jpg', labels: '{{frame}}.png'}}\n{READER}": "layout.images lacks {frame}",
    f"layout: {{images: '{{city}}.jpg', labels: a}}\n{READER}": "with {split}, {frame}, {image}",
    f"layout: {{images: '../{{frame}}.jpg', labels: a}}\n{READER}": "must be a path below the data set's",
    f"layout: {{images: '/{{frame}}.jpg', labels: a}}\n{READER}": "must be a path below the data set's",
    f"layout: {{image: '{{frame}}.jpg'}}\n{READER}": "unknown key layout.image",
    f"{LAYOUT}reader: coco": "layout.json is missing",
    f"{LAYOUT}reader: {{instance: R}}": "reader.category is missing",
    f"{LAYOUT}reader: {{category: X}}": "reader.category is 'X'; write a sum of channels",
    f"{LAYOUT}reader: {{category: __import__('os')}}": "write a sum of channels",
    f"{LAYOUT}reader: {{category: R // 0}}": "the number after // must not be 0",
    f"{LAYOUT}reader: {{category: 7}}": "reader.category is 7",
    f"{LAYOUT}{READER}clips: film": "'clips' is 'film'; it must be folder or prefix",
    f"{LAYOUT}{READER}frames: {{val: many}}": "'frames' is {'val': 'many'}",
    f"{LAYOUT}{READER}name: [1]": "'name' is [1]; it must be text of one line",
    f"{LAYOUT}{READER}published: [{{pq: 1}}]": "'published' entry 1: needs method, pq, source",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=WRONG.values())
def test_read_set_file__what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "wrong.yaml", text)
    with pytest.raises(UserError) as caught:
        read_set_file(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)
