"""Every data set in its official encoding: classes, objects, crowds, void, clips; what a copy may lack."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from cups.data import CityscapesPanopticValidation, classes_of_set, open_validation_set
from cups.data.described import DescribedPanopticValidation, has_ground_truth
from cups.errors import UserError
from cups.set_files import find_set, shipped_names
from tests.data_sets import SCENE, WRITERS, expected, painted, picture, rgb, save

VIDEO = ("waymo", "mots", "kitti-step", "cityscapes-vps", "cityscapes-dvps")


def opened(name: str, root: Path, num_classes: int = 19, **rest: object) -> CityscapesPanopticValidation:
    return open_validation_set(name, root, "val", classes_of_set(name, root, "val", num_classes), **rest)


def test_data_sets__each_has_a_miniature() -> None:
    assert sorted(WRITERS) == shipped_names()


@pytest.mark.parametrize("name", WRITERS)
def test_data_sets__as_their_publishers_encode_them(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    data = opened(name, tmp_path)
    assert has_ground_truth(find_set(name), tmp_path, "val")
    frames = [0] if name == "muses" else [0, 1]
    assert len(data) == len(frames)
    for frame in frames:
        item = data[frame]
        target = item.ground_truth()
        grey = (item.image[0] * 255).numpy()
        assert np.abs(grey - picture(frame)[..., 0]).max() < 4, "image and labels are of one frame"
        found = []
        for region in SCENE:
            kind, is_object = expected(name, region)
            pairs = np.unique(target.pairs[region.mask(frame)], axis=0)
            category = data.classes.names.index(kind) if kind else 255
            assert pairs[:, 0].tolist() == [category], (region, "one class")
            thing = category in data.classes.things
            assert not thing or (pairs[0, 1] > 0) == is_object, (region, "a group is a crowd")
            found += [int(pairs[0, 1])] if thing and is_object else []
        assert len(set(found)) == len(found), "two objects that touch are two"


@pytest.mark.parametrize("name", VIDEO)
def test_data_sets__objects_keep_their_identity_through_a_clip(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    data = opened(name, tmp_path)
    assert isinstance(data, DescribedPanopticValidation)
    assert list(data.clips.values()) == [[0, 1]]
    for region in SCENE:
        first, second = (data[frame].ground_truth().instances[region.mask(frame)][0] for frame in (0, 1))
        assert first == second, region
    assert not opened("kitti", _kitti(tmp_path / "k")).clips


def _kitti(root: Path) -> Path:
    WRITERS["kitti"](root)
    return root


@pytest.mark.parametrize(("name", "count"), [("bdd", 27), ("bdd", 7), ("waymo", 7), ("muses-all", 27)])
def test_data_sets__in_other_numbers_of_classes(name: str, count: int, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    data = opened(name, tmp_path, count)
    assert data.classes.num_classes == count
    names = {data.classes.names[c] for c in np.unique(data[0].ground_truth().categories) if c != 255}
    if count == 27:
        assert names == {"road", "sidewalk", "building", "vegetation", "sky", "person", "car"}
    else:
        assert names == {"flat", "construction", "nature", "sky", "human", "vehicle"}


def test_waymo__lacks_three_classes_and_27(tmp_path: Path) -> None:
    classes = classes_of_set("waymo", tmp_path, "val", 19)
    assert [classes.names[i] for i in classes.absent] == ["wall", "fence", "terrain"]
    assert classes.evaluated.sum() == 16 and classes.num_classes == 19
    with pytest.raises(UserError, match="waymo-27: no such class file; give a YAML file, or one of bdd-19"):
        classes_of_set("waymo", tmp_path, "val", 27)


def test_dvps__bare_train_ids_of_the_tools_of_vps(tmp_path: Path) -> None:
    """Their panoptic_inst holds trainIds for stuff, 255 for void, and only objects above 1000."""
    WRITERS["cityscapes-dvps"](tmp_path)
    whole = opened("cityscapes-dvps", tmp_path)[0].ground_truth().pairs
    for path in (tmp_path / "video_sequence/val").glob("*instanceTrainIds.png"):
        ids = np.array(__import__("PIL.Image", fromlist=["open"]).open(path))
        stuff = ids // 1000
        bare = np.where(ids >= 32000, 255, np.where(np.isin(stuff, (11, 13)), ids, stuff))
        save(path, bare.astype(np.uint16))
    assert (opened("cityscapes-dvps", tmp_path)[0].ground_truth().pairs == whole).all()


def test_muses__one_condition_by_a_pattern(tmp_path: Path) -> None:
    WRITERS["muses"](tmp_path)
    (night,) = opened("muses", tmp_path, select="*fog/night/*").frames
    assert night.stem == "val/fog/night/REC0001_frame_000121"
    with pytest.raises(
        UserError, match=r"none of the 2 frames, such as val/clear/day/REC0000\S*, is named x"
    ):
        opened("muses", tmp_path, select="x")


def test_muses__names_relative_to_the_folder_of_the_json(tmp_path: Path) -> None:
    """panopticapi's tools look below a folder named like the JSON; either way of naming is read."""
    WRITERS["muses-all"](tmp_path)
    json = tmp_path / "gt_panoptic/val.json"
    json.write_text(json.read_text().replace('"val/', '"'))
    assert [frame.stem for frame in opened("muses-all", tmp_path).frames] == [
        "clear/day/REC0000_frame_000120", "fog/night/REC0001_frame_000121",
    ]  # fmt: skip


MISSING = {
    "bdd": (
        "labels/pan_seg/bitmasks/val/7dfda4da-b7d44e2c.png",
        r"\(1 of 2 frames lack theirs\); unpack 10k_im",
    ),
    "kitti": ("validation/images/000001_10.png", r"\(1 of 2 frames lack theirs\); unpack KITTI-panoptic"),
    "waymo": (
        "validation/segment-10203656353524179475_7625_000_7645_000_with_camera_labels/10_instance.png",
        r"\(1 of 2 frames lack theirs\); unpack validation records",
    ),
    "mots": ("train/instances/0002/000002.png", r"\(1 of 2 frames lack theirs\); unpack MOTSChallenge.zip"),
    "kitti-step": ("images/val/0002/000001.png", r"unpack data_tracking_image_2.zip"),
    "muses-all": (
        "frame_camera/val/fog/night/REC0001_frame_000121_frame_camera.png",
        r"which val.json lists \(1 of 2 are missing\); unpack RGB_Frame_Camera",
    ),
    "cityscapes-vps": (
        "val/panoptic_video/0005_0026_frankfurt_000000_000001_gtFine_color.png",
        r"which panoptic_gt_val_city_vps.json lists \(1 of 2 are missing\)",
    ),
    "vistas": ("validation/images/--jRsD9anHdGxv4ZOCQkt1.jpg", r"\(1 of 2 are missing\); unpack Mapillary"),
    "coco-stuff": ("annotations/panoptic_val2017.json", r"no such file; unpack val2017.zip"),
}


@pytest.mark.parametrize("name", MISSING)
def test_data_sets__an_incomplete_download_is_one_line_with_the_fix(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    file, message = MISSING[name]
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=message) as caught:
        opened(name, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / file}: no such file")
    assert "\n" not in str(caught.value) and "`data_root`" in str(caught.value)


def test_data_sets__fewer_frames_than_published_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    WRITERS["bdd"](tmp_path)
    with caplog.at_level(logging.WARNING):
        data = opened("bdd", tmp_path)
    assert "2 of 1000 frames of BDD100K val; for all of them, unpack 10k_images_val.zip" in caplog.text
    assert isinstance(data, DescribedPanopticValidation) and data.expected == 1000


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "cityscapes"])
def test_data_sets__an_empty_folder(name: str, tmp_path: Path) -> None:
    assert not has_ground_truth(find_set(name), tmp_path, "val")
    with pytest.raises(UserError, match=r"no such files?; unpack"):
        opened(name, tmp_path)


def test_data_sets__pictures_in_place_of_ids(tmp_path: Path) -> None:
    """BDD100K also offers colour maps of the same names: RGB without the channel of numbers."""
    WRITERS["bdd"](tmp_path)
    for file in (tmp_path / "labels/pan_seg/bitmasks/val").iterdir():
        save(file, picture(0))
    with pytest.raises(
        UserError, match=r"\.png: has the channels RGB, and channel A is due; unpack the original"
    ):
        opened("bdd", tmp_path)


def test_data_sets__an_id_that_no_class_has(tmp_path: Path) -> None:
    WRITERS["mots"](tmp_path)
    file = tmp_path / "train/instances/0002/000002.png"
    save(file, painted(1, lambda region: 7003 if region.group else 0, np.uint16))
    with pytest.raises(UserError, match=r"000002\.png: holds id 7, which mots-2 does not name"):
        opened("mots", tmp_path)


def test_data_sets__a_set_of_ones_own(tmp_path: Path) -> None:
    """A layout, a class file and a reader, in two files of the user: nothing in the library knows them."""
    (tmp_path / "farm.yaml").write_text(
        "layout: {images: 'pictures/{split}/{frame}.png', labels: 'masks/{split}/{frame}/ids.png'}\n"
        "splits: {val: holdout}\nreader: {category: B, instance: 'R // 2', crowd: 'R & 1'}\n"
        "classes: farm-classes.yaml\nclips: folder\n"
    )
    (tmp_path / "farm-classes.yaml").write_text(
        "classes:\n  - {id: 5, name: cow, thing: true}\n  - {id: 9, name: grass, thing: false}\n"
    )
    save(tmp_path / "data/pictures/holdout/a/1.png", picture(0))
    #               cow 3, cow 4, grass, a herd
    ids = np.array([[[6, 0, 5], [8, 0, 5], [0, 0, 9], [7, 0, 5]]], dtype=np.uint8)
    save(tmp_path / "data/masks/holdout/a/1/ids.png", np.kron(ids, np.ones((48, 24, 1), np.uint8)))
    data = opened(str(tmp_path / "farm.yaml"), tmp_path / "data")
    assert data[0].ground_truth().pairs[0, ::24].tolist() == [
        [0, 5 * 2**16 + 3], [0, 5 * 2**16 + 4], [1, 0], [0, 0],
    ]  # fmt: skip


def test_data_sets__a_number_too_high_for_a_clip(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "layout: {images: '{frame}.jpg', labels: '{frame}.png'}\nclasses: mots-2\nclips: folder\n"
        "reader: {category: B // 100, instance: R + 256 G + 65536 B}\n"
    )
    save(tmp_path / "d/a/1.jpg", picture(0))
    save(tmp_path / "d/a/1.png", rgb(np.full((48, 96), 200 << 16)))
    data = opened(str(tmp_path / "s.yaml"), tmp_path / "d")
    with pytest.raises(UserError, match="numbers an object 13107200, and 65535 is the highest of a clip"):
        data[0]
