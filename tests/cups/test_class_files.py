"""Class files: what they give, and each way to write one wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from cups.taxonomy import VOID, load_class_set

GOOD = """
name: farm
classes:
  - {id: 300, trainId: 1, name: cow, thing: true, color: [200, 10, 10]}
  - {id: [1, 2], trainId: 0, name: grass, thing: false}
ignore: [0, {id: 9, name: tractor}]
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_load_class_set__a_file(tmp_path: Path) -> None:
    classes = load_class_set(write(tmp_path / "farm.yaml", GOOD))
    assert (classes.names, classes.things, classes.stuffs) == (("grass", "cow"), (1,), (0,))
    assert len(classes.from_id) == 301 and classes.of_ids([1, 2, 300, 0, 9, 999]).tolist() == [
        0, 0, 1, VOID, VOID, VOID,
    ]  # fmt: skip
    assert classes.colors[1].tolist() == [200, 10, 10] and classes.colors.shape == (2, 3)
    assert classes.ignored == {0: "", 9: "tractor"} and classes.name == "farm"
    assert classes.file == str(tmp_path / "farm.yaml")


def test_load_class_set__a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", GOOD)
    assert load_class_set(path).num_classes == 2
    path.unlink()
    with pytest.raises(UserError, match=r"no such class file; give a YAML file, or one of bdd-19, bdd-27"):
        load_class_set(path)


def test_load_class_set__categories_of_coco_sets_and_classes_that_labels_lack(tmp_path: Path) -> None:
    text = "classes: [{name: cow, thing: true, categories: [calf, bull]}, {id: [], name: wall, thing: false}]"
    classes = load_class_set(write(tmp_path / "a.yaml", text))
    assert classes.of_category == {"cow": 0, "calf": 0, "bull": 0, "wall": 1}
    assert classes.absent == (1,) and classes.evaluated.tolist() == [True, False] and classes.ids == ()
    assert load_class_set("waymo-19").file == "waymo-19", "a shipped file is told by its name"


COW = "{id: 3, name: cow, thing: true}"
WRONG = {
    "a: [": "not valid YAML",
    "- 1": "has no list 'classes'",
    "classes: []": "holds 0 classes",
    f"classes: [{COW}]\nclases: 1": "unknown key clases; known are name, classes, ignore",
    f"classes: [{COW}, 5]": "class 2: is no mapping",
    "classes: [{id: 3, thing: true}]": "class 1: has no name",
    "classes: [{id: 3, name: no, thing: true}]": "class 1: has no name",
    "classes: [{id: 3, name: cow, thing: true, colour: [1, 2, 3]}]": "class 1 (cow): unknown key colour",
    "classes: [{name: cow, thing: true}]": "class 1 (cow): 'id' is None",
    "classes: [{id: -1, name: cow, thing: true}]": "class 1 (cow): 'id' is -1",
    "classes: [{id: 3, name: cow, thing: 1}]": "class 1 (cow): 'thing' is 1",
    "classes: [{id: 3, name: cow}]": "class 1 (cow): 'thing' is None",
    "classes: [{id: 3, name: cow, thing: true, color: [1, 2]}]": "'color' is [1, 2]",
    "classes: [{id: 3, name: cow, thing: true, trainId: 300}]": "'trainId' is 300",
    f"classes: [{COW}, {{id: 3, name: ox, thing: true}}]": "id 3 is of cow and of ox",
    f"classes: [{COW}, {{id: 4, name: cow, thing: true}}]": "2 classes are named cow",
    "classes: [{id: 3, trainId: 1, name: cow, thing: true}]": "'trainId' must be 0-0, each once",
    f"classes: [{COW}]\nignore: [3]": "id 3 (cow) is in 'ignore' too",
    f"classes: [{COW}]\nignore: [0, 0]": "'ignore' entry 2: id 0 is there twice",
    f"classes: [{COW}]\nignore: 0": "'ignore' must be a list",
    "classes: [{name: cow, thing: true, categories: cow}]": "'categories' is 'cow'; it must be a list",
    "classes: [{name: a, thing: true, categories: [b]}, {id: 1, name: b, thing: true}]": (
        "category b is of b and of a; it has one class"
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=WRONG.values())
def test_load_class_set__what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "wrong.yaml", text)
    with pytest.raises(UserError) as caught:
        load_class_set(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)
