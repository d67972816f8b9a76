"""COCO panoptic sets: whose categories are the classes, and identities of segments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.labels.coco_sets import class_table, read_coco_set
from cups.taxonomy import load_class_set
from tests.data_sets import VISTAS, coco_stuff, rgb, save, vistas


def small(folder: Path, categories: list[dict[str, object]], **entry: object) -> Path:
    """Write a set of one image, with two segments of the first category."""
    save(folder / "set/a.png", rgb(np.array([[5, 70000]])))
    first = categories[0]["id"]
    annotation = {
        "image_id": 1, "file_name": "a.png",
        "segments_info": [{"id": one, "category_id": first} for one in (5, 70000)],
    } | entry  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [annotation],
        "categories": categories,
    }
    (folder / "set.json").write_text(json.dumps(content))
    return folder / "set.json"


def test_class_table__names_of_a_class_and_what_they_are_kinds_of(tmp_path: Path) -> None:
    """Vistas names labels twice: 'Car', and 'object--vehicle--car' as supercategory."""
    vistas(tmp_path)
    folder = tmp_path / "validation/v2.0/panoptic"
    coco = read_coco_set(folder / "panoptic_2020.json", folder.joinpath)
    classes = load_class_set("vistas-19")
    table, without = class_table(coco, classes)
    assert without == ["Guard Rail"], "void in Cityscapes' 19 classes"
    found = {
        category.name: classes.names[index]
        for category, index in zip(coco.categories, table.tolist(), strict=True)
        if index >= 0
    }
    assert found == {name: key for key, (_, name, _) in VISTAS.items() if key != "guard rail"}


def test_class_table__ids_where_they_are_all_known(tmp_path: Path) -> None:
    """'person' alone is named like a class of COCO-Stuff-27: by names all else would be void."""
    coco_stuff(tmp_path)
    coco = read_coco_set(tmp_path / "annotations/panoptic_val2017.json")
    classes = load_class_set("coco-27")
    table, without = class_table(coco, classes)
    assert [classes.names[index] for index in table] == [category.kind for category in coco.categories]
    assert not without


def test_class_table__ids_of_another_numbering_are_not_taken(tmp_path: Path) -> None:
    """Three of four ids are Cityscapes', and two names: by ids a cow would be a car."""
    names = {24: "person", 25: "car", 26: "cow", 99: "sheep"}
    categories: list[dict[str, object]] = [{"id": i, "name": n, "isthing": 1} for i, n in names.items()]
    classes = load_class_set("cityscapes-19")
    table, without = class_table(read_coco_set(small(tmp_path, categories)), classes)
    assert [classes.names[index] for index in table[:2]] == ["person", "car"]
    assert table[2:].tolist() == [-1, -1] and without == ["cow", "sheep"]


def test_coco_27__are_the_supercategories_of_133_categories() -> None:
    classes = load_class_set("coco-27")
    assert (len(classes.ids), classes.num_classes, len(classes.things)) == (133, 27, 12)


def test_class_table__no_class_at_all(tmp_path: Path) -> None:
    coco = read_coco_set(small(tmp_path, [{"id": 900, "name": "cow", "isthing": 1}]))
    with pytest.raises(UserError, match=r"none of its categories \(cow\) is one of bdd-19 \(road, sidewalk"):
        class_table(coco, load_class_set("bdd-19"))


def test_read__objects_have_numbers_of_their_segments(tmp_path: Path) -> None:
    coco = read_coco_set(small(tmp_path, [{"id": 1, "name": "cow", "isthing": 1}]))
    assert coco.read("a", 255).instances.tolist() == [[6, 70001]], "the same in all frames"
    assert coco.annotations["a"].image == "a.jpg"


@pytest.mark.parametrize("name", ["/etc/passwd.png", "../a.png"])
def test_read_coco_set__names_files_of_its_folder_only(tmp_path: Path, name: str) -> None:
    path = small(tmp_path, [{"id": 1, "name": "cow", "isthing": 1}], file_name=name)
    with pytest.raises(UserError, match="which is not within its folder"):
        read_coco_set(path)
    content = json.loads(path.read_text())
    content["annotations"][0]["file_name"], content["images"][0]["file_name"] = "a.png", name
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="which is not within its folder"):
        read_coco_set(path)
