"""Pseudo-labels of other tools as training labels: content, frames, and where they come from."""

from __future__ import annotations

import json
import logging
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.data import PseudoLabelDataset
from cups.errors import UserError
from cups.io.coco_panoptic import to_rgb
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from cups.io.thing_stuff import read_split
from pseudo_labels.convert_other_labels import main

CATEGORIES = [
    {"id": 7, "name": "way", "isthing": 0},
    {"id": 40, "name": "house", "isthing": 0},
    {"id": 90, "name": "vehicle", "isthing": 1},
]


def instance_ids(root: Any, stem: str) -> np.ndarray:
    """Return gtFine's instanceIds, from which the labels of "another tool" are made here."""
    return read_ids(root.file("gtFine", f"{stem}_gtFine_instanceIds.png")).astype(np.int64)


def write_coco(folder: Path, maps: dict[str, np.ndarray], images: dict[str, str] | None = None) -> Path:
    """Write maps of instanceIds as `train.json` and `train/{name}.png`; segment ids tell no class."""
    annotations, listed = [], []
    for number, (name, ids) in enumerate(maps.items()):
        values, places = np.unique(ids, return_inverse=True)
        segments = 70000 + 31 * np.arange(len(values))
        write_png(folder / f"train/{name}.png", to_rgb(segments[places].reshape(ids.shape)))
        info = [
            {"id": int(segment), "category_id": 7 if value == 7 else 40 if value == 11 else 90}
            for segment, value in zip(segments, values, strict=True)
        ]
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": info})
        if images:
            listed.append({"id": number, "file_name": images[name]})
    content = {"images": listed, "annotations": annotations, "categories": CATEGORIES}
    (folder / "train.json").write_text(json.dumps(content))
    return folder / "train.json"


@pytest.fixture
def coco(tiny_root: Any, tmp_path: Path) -> Path:
    """A set as Cityscapes' own script names its files: `{stem}_gtFine_panoptic.png`, without folders."""
    maps = {f"{stem}_gtFine_panoptic": instance_ids(tiny_root, stem) for stem in tiny_root.stems}
    return write_coco(tmp_path / "tool", maps)


def run(root: Any, labels: Path, *more: str) -> Path:
    main(["--cityscapes_root", str(root.path), "--labels", str(labels), *more])
    return root.path / "cups_pseudo_labels_tool_train"


def test_main__a_coco_set_is_trained_on(tiny_root: Any, coco: Path) -> None:
    folder = run(tiny_root, coco)
    stem = tiny_root.stems[0]
    ids = instance_ids(tiny_root, stem)
    expected = np.where(ids == 7, 0, np.where(ids == 11, 1, 2))
    semantic, instance = (
        read_ids(folder / f"{stem}_leftImg8bit_{kind}.png") for kind in ("semantic", "instance")
    )
    assert (semantic == expected).all() and semantic.dtype == np.uint8
    assert ((instance > 0) == (ids >= 26000)).all() and len(np.unique(instance[ids == 26001])) == 1
    assert read_split(folder / "thing_stuff_split.json").things == (2,)
    assert json.loads((folder / "format.json").read_text())["names"] == ["way", "house", "vehicle"]
    sample = PseudoLabelDataset(tiny_root.path, folder, scale=1.0, crop=(64, 128))[0]
    assert sample.masks.shape == (2, 64, 128) and sample.classes.tolist() == [0, 0]


def test_main__nobody_knows_how_they_were_made(tiny_root: Any, coco: Path) -> None:
    folder = run(tiny_root, coco)
    assert (read_provenance(folder) or {})["uses_ground_truth"] is None
    assert json.loads((folder / "thing_stuff_split.json").read_text())["uses_ground_truth"] is None
    (coco.parent / "provenance.json").write_text('{"uses_ground_truth": false, "source": "our own tool"}')
    run(tiny_root, coco, "--overwrite")
    assert (read_provenance(folder) or {})["uses_ground_truth"] is False


def test_main__objects_that_were_drawn_anew_are_converted_again(tiny_root: Any, tmp_path: Path) -> None:
    """The instance file alone is newer; semantics and images are as they were."""
    for stem in tiny_root.stems:
        ids = instance_ids(tiny_root, stem)
        write_png(tmp_path / f"tool/semantic/{stem}.png", np.where(ids >= 26000, 26, ids).astype(np.uint8))
        write_png(tmp_path / f"tool/instance/{stem}.png", (ids >= 26000).astype(np.uint16))
    folder = tiny_root.path / f"cups_pseudo_labels_{tmp_path.name}_tool"

    def objects() -> int:
        main(["--cityscapes_root", str(tiny_root.path), "--labels", str(tmp_path / "tool")])
        return int(read_ids(folder / f"{tiny_root.stems[0]}_leftImg8bit_instance.png").max())

    assert objects() == 1
    numbers = np.maximum(instance_ids(tiny_root, tiny_root.stems[0]) - 26000, -1) + 1
    write_png(tmp_path / f"tool/instance/{tiny_root.stems[0]}.png", numbers.astype(np.uint16))
    assert objects() == 2


@pytest.mark.parametrize("of", ["windows", "mac"])
def test_main__names_as_other_systems_write_them(of: str, tiny_root: Any, tmp_path: Path) -> None:
    """Backslashes between folders and endings in capitals; accents apart from their letters."""
    clips(images := tmp_path / "video", "one/é1")
    ids = instance_ids(tiny_root, tiny_root.stems[0])
    flags = ["--image_dir", str(images), "--output_root", str(tmp_path / "out"), "--labels"]
    if of == "mac":
        labels = write_coco(tmp_path / "tool", {unicodedata.normalize("NFD", "one/é1"): ids})
    else:
        labels = write_coco(tmp_path / "tool", {"one/é1": ids})
        labels.write_text(labels.read_text().replace("one/", "one\\\\"), encoding="utf-8-sig")
    main([*flags, str(labels)])
    assert (tmp_path / "out/cups_pseudo_labels_tool_train/one%2Fé1_leftImg8bit_semantic.png").is_file()
    write_png(tmp_path / "ids/one/é1_labelIds.png", np.where(ids >= 26000, 26, ids).astype(np.uint8))
    write_png(tmp_path / "ids/one/é1_instanceIds.png", (ids * (ids >= 26000)).astype(np.uint16))
    for path in (tmp_path / "ids/one").iterdir():
        path.rename(path.with_suffix(".PNG"))
    main([*flags, str(tmp_path / "ids")])


def test_main__a_killed_run_goes_on_and_other_labels_are_not_mixed_in(
    tiny_root: Any, coco: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run(tiny_root, coco)
    whole = {path.name: path.read_bytes() for path in folder.glob("*_semantic.png")}
    (folder / f"{tiny_root.stems[1]}_leftImg8bit_semantic.png").unlink()
    with caplog.at_level(logging.INFO):
        run(tiny_root, coco.with_suffix(""))  # the folder of the JSON's name is the same set
    assert "1 done, 1 skipped" in caplog.text
    assert {path.name: path.read_bytes() for path in folder.glob("*_semantic.png")} == whole
    shutil.copytree(coco.parent, other := coco.parent.parent / "later" / "tool")
    content = json.loads(coco.read_text())
    content["annotations"][0]["segments_info"][0]["category_id"] = 40
    (other / "train.json").write_text(json.dumps(content))
    (other / "train.json").touch()
    for path in folder.glob(
        "*.png"
    ):  # as a copy that keeps its times: older than the files made of the first
        path.touch()
    with pytest.raises(UserError, match=r"made with other inputs \(train.json was made anew since\)"):
        run(tiny_root, other / "train.json")


def test_main__maps_of_ids_with_instances(tiny_root: Any) -> None:
    """Cityscapes' own files are such a folder: its ids are pseudo-classes, and ground truth stays told."""
    folder = tiny_root.path / "out"
    run(tiny_root, tiny_root.path / "gtFine/train", "--output_dir", str(folder))
    content = json.loads((folder / "format.json").read_text())
    things = [content["names"][thing] for thing in content["split"]["things"]]
    assert things == ["26"] and set(content["names"]) == {"7", "11", "26"}
    assert (read_provenance(folder) or {})["uses_ground_truth"] is True


def test_main__images_without_labels(tiny_root: Any, tmp_path: Path) -> None:
    stem = tiny_root.stems[0]
    labels = write_coco(tmp_path / "tool", {f"aachen/{stem}": instance_ids(tiny_root, stem)})
    with pytest.raises(
        UserError, match=r"no labels in .*train.json \(1 of 2 images have none\).*only_labelled"
    ):
        run(tiny_root, labels)
    folder = run(tiny_root, labels, "--only_labelled")
    assert [path.name for path in folder.glob("*_semantic.png")] == [f"{stem}_leftImg8bit_semantic.png"]


def clips(root: Path, *names: str) -> None:
    for name in names:
        write_png(root / f"{name}.png", np.zeros((64, 128, 3), np.uint8))


def test_main__frames_numbered_alike_in_two_clips(tiny_root: Any, tmp_path: Path) -> None:
    """Labels of one clip must not become those of the other: folders tell, in PNG or image names."""
    clips(images := tmp_path / "video", "one/0001", "two/0001")
    first, second = (instance_ids(tiny_root, stem) for stem in tiny_root.stems)
    flags = ["--image_dir", str(images), "--output_root", str(tmp_path / "out")]
    listed = {"a": "video/two/0001.png", "b": "video/one/0001.png"}
    main([*flags, "--labels", str(write_coco(tmp_path / "by_image", {"a": second, "b": first}, listed))])
    for clip, ids in (("one", first), ("two", second)):
        name = f"cups_pseudo_labels_by_image_train/{clip}%2F0001_leftImg8bit_semantic.png"
        assert ((read_ids(tmp_path / "out" / name) == 2) == (ids >= 26000)).all()
    labels = write_coco(tmp_path / "bare", {"0001": first})
    with pytest.raises(UserError, match="0001 could be of one/0001 and of two/0001"):
        main([*flags, "--labels", str(labels)])
    labels = write_coco(tmp_path / "else", {"three/0001": first})
    with pytest.raises(UserError, match=r"no image has labels; .* here three/0001, of the images one/0001"):
        main([*flags, "--labels", str(labels)])


def test_main__labels_that_no_network_learns_from(tiny_root: Any, coco: Path, tmp_path: Path) -> None:
    content = json.loads(coco.read_text())
    coco.write_text(json.dumps({**content, "categories": [{**one, "isthing": 0} for one in CATEGORIES]}))
    with pytest.raises(UserError, match="has stuff alone, by 'isthing' of its categories"):
        run(tiny_root, coco)
    for stem in tiny_root.stems:
        write_png(tmp_path / f"ids/{stem}.png", np.zeros((64, 128), np.uint8))
    with pytest.raises(UserError, match="has class ids alone"):
        run(tiny_root, tmp_path / "ids")
    write_coco(tmp_path / "tool", {stem: instance_ids(tiny_root, stem)[:32] for stem in tiny_root.stems})
    with pytest.raises(UserError, match="has not the shape of the labels, 32x128"):
        run(tiny_root, coco)
