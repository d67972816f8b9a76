"""Finding images: which files count, their order, and the names of frames."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cups.errors import UserError
from cups.io.file_names import flat_name, frame_name
from cups.io.images import (
    HEIC,
    HIDDEN,
    MASKS,
    OTHER,
    OWN,
    frame_names,
    frame_stem,
    list_city_images,
    list_images,
    natural_key,
    refuse_output_inside,
    report_images,
    scan_images,
)
from cups.io.png import write_png


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _listed(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in list_images(root)]


def _photo(path: Path, seed: int = 0) -> None:
    write_png(path, np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8))


def _mask(path: Path) -> None:
    write_png(path, np.repeat([0, 1, 2], 8)[:, None].repeat(32, 1).astype(np.uint8))


names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=12)


@given(names)
def test_flat_name__is_one_file_name_that_gives_the_name_back(name: str) -> None:
    flat = flat_name(name)
    assert "/" not in flat and frame_name(flat) == name


@given(names, names)
def test_flat_name__tells_names_apart(one: str, other: str) -> None:
    assert (flat_name(one) == flat_name(other)) == (one == other)


def test_list_images__all_below_by_path_whatever_the_case_of_the_suffix(tmp_path: Path) -> None:
    _touch(
        tmp_path, "b.PNG", "a/z.jpg", "a/deep/er.jpeg", "notes.txt", "a/x.pngx", "c.webp", "d.bmp", "e.TIF"
    )
    assert _listed(tmp_path) == ["a/deep/er.jpeg", "a/z.jpg", "b.PNG", "c.webp", "d.bmp", "e.TIF"]
    assert list_images(tmp_path / "none") == []
    assert list_images(tmp_path / "c.webp") == [tmp_path / "c.webp"]


def test_list_images__numbers_count_by_their_value(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"clip{clip}/frame{number}.png" for clip in (10, 9) for number in (2, 10, 1, "02")))
    order = [f"clip{clip}/frame{number}.png" for clip in (9, 10) for number in (1, "02", 2, 10)]
    assert _listed(tmp_path) == order


@given(st.lists(st.text("a1²_0", min_size=1, max_size=5), max_size=6))
def test_natural_key__any_names_can_be_sorted_and_none_are_equal(found: list[str]) -> None:
    ordered = sorted(set(found), key=natural_key)
    assert sorted(ordered[::-1], key=natural_key) == ordered


def test_natural_key__a_name_before_the_same_with_a_number() -> None:
    names = ["clip", "clip1", "clip2", "clip10", "clip10b", "clips"]
    assert sorted(reversed(names), key=natural_key) == names


def test_scan_images__hidden_files_and_those_of_systems_are_counted_only(tmp_path: Path) -> None:
    _touch(
        tmp_path, "a.png", "._a.png", ".cache/b.png", "@eaDir/a.png/SYNO.jpg", "Thumbs.db", "__MACOSX/a.png"
    )
    listing = scan_images(tmp_path)
    assert [path.name for path in listing.images] == ["a.png"] and listing.ignored == {HIDDEN: 5}


def test_scan_images__heic_without_its_reader_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "a.HEIC", "b.jpg", "c.txt")
    monkeypatch.setattr("cups.io.images._suffixes", lambda: frozenset({".jpg"}))
    listing = scan_images(tmp_path)
    assert len(listing.images) == 1 and listing.ignored == {HEIC: 1, OTHER: 1}


def test_scan_images__links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    _touch(root, "b/1.png", "a.png")
    _touch(other, "2.png")
    (root / "a_link").symlink_to(root / "b")
    (root / "b" / "loop").symlink_to(root)
    (root / "else").symlink_to(other)
    (root / "file.png").symlink_to(other / "2.png")
    (root / "dead.png").symlink_to(other / "none.png")
    assert _listed(root) == ["a.png", "b/1.png", "else/2.png", "file.png"]
    assert scan_images(root).ignored.total() == 1


@pytest.mark.parametrize(
    "written",
    [["labels/provenance.json"], ["labels/settings.json", "labels/raw/x.png"]],
    ids=["step", "predictions"],
)
def test_scan_images__own_outputs_are_no_photos(tmp_path: Path, written: list[str]) -> None:
    _touch(tmp_path, "a.png", "labels/a.png", "labels/deep/a.png", *written)
    listing = scan_images(tmp_path)
    assert [path.name for path in listing.images] == ["a.png"]
    assert listing.ignored == {OWN: 2 + len(written)}
    assert len(scan_images(tmp_path / "labels").images) >= 2, "whoever asks for them gets them"


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("JPEGImages/{}.png", "SegmentationClass/{}.png"),
        ("images/{}.png", "masks/{}.png"),
        ("train/rgb/{}.png", "train/b/{}.png"),
        ("{}.png", "{}_mask.png"),
        ("{}.png", "{}.bmp"),
        ("city/{}.png", "city/{}_gtFine_labelIds.png"),
    ],
)
def test_scan_images__masks_beside_images(tmp_path: Path, image: str, mask: str) -> None:
    for number in range(3):
        _photo(tmp_path / image.format(number), number)
        _mask(tmp_path / "m.png")
        target = tmp_path / mask.format(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".bmp":
            from PIL import Image

            Image.open(tmp_path / "m.png").save(target)
            (tmp_path / "m.png").unlink()
        else:
            (tmp_path / "m.png").rename(target)
    listing = scan_images(tmp_path)
    assert _listed(tmp_path) == [image.format(number) for number in range(3)]
    assert listing.ignored == {MASKS: 3}


def test_scan_images__clips_of_equal_names_stay(tmp_path: Path) -> None:
    for clip in ("clip1", "clip2"):
        _photo(tmp_path / clip / "1.png", len(clip))
        write_png(tmp_path / clip / "2.png", np.zeros((24, 32, 3), np.uint8))  # fades from black
    assert len(list_images(tmp_path)) == 4


def test_frame_names__only_those_that_clash_keep_their_suffix(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.png", "a/1.jpg", "a/1.png.jpg", "b/1.png", "v.1.png")
    images = list_images(tmp_path)
    assert frame_names(tmp_path, images) == ["a/1.jpg", "a/1.png", "a/1.png.jpg", "b/1", "v.1"]


def test_list_city_images__one_level_and_one_ending(tmp_path: Path) -> None:
    kept = ["bonn/bonn_0_leftImg8bit.png", "ulm/ulm_1_leftImg8bit.png", "ulm/ulm_2_leftImg8bit.jpg"]
    _touch(tmp_path, *kept, "ulm/ulm_1.png", "ulm/deep/ulm_2_leftImg8bit.png", "ulm_3_leftImg8bit.png")
    _touch(tmp_path, "ulm/ulm_1_leftImg8bit.jpg", "ulm/._ulm_1_leftImg8bit.png")
    images = list_city_images(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in images] == kept
    assert [frame_stem(path) for path in images] == ["bonn_0", "ulm_1", "ulm_2"]
    assert list_city_images(tmp_path / "none") == []


def test_frame_stem__other_names_stay_whole() -> None:
    assert frame_stem(Path("a.png")) == "a.png"


def test_report_images__number_sizes_and_what_was_left_out(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((24, 40, 3), np.uint8))
    write_png(tmp_path / "b.png", np.zeros((48, 16, 3), np.uint8))
    _touch(tmp_path, "bad.png")
    text = report_images(list_images(tmp_path), Counter({OTHER: 2, HIDDEN: 1}))
    ignored = "3 files ignored: 2 other files, 1 hidden or of the system"
    assert text == f"3 images, 48x16 to 24x40, 1 unreadable, {ignored}"


def test_refuse_output_inside__below_and_the_folder_itself(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    refuse_output_inside(tmp_path / "out", images)
    refuse_output_inside(tmp_path, images)
    for inside in (images, images / "a" / "b", tmp_path / "out" / ".." / "images"):
        with pytest.raises(UserError, match="give `output_dir` a folder outside"):
            refuse_output_inside(inside, images, "output_dir")
