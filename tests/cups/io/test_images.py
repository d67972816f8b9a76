"""Finding images."""

from __future__ import annotations

from pathlib import Path

from cups.io.images import frame_stem, list_city_images, list_images


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_list_images__all_below_by_path_whatever_the_case_of_the_suffix(tmp_path: Path) -> None:
    _touch(tmp_path, "b.PNG", "a/z.jpg", "a/deep/er.jpeg", "notes.txt", "a/x.pngx")
    found = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)]
    assert found == ["a/deep/er.jpeg", "a/z.jpg", "b.PNG"]
    assert list_images(tmp_path / "none") == []


def test_list_city_images__one_level_and_one_ending(tmp_path: Path) -> None:
    kept = ["bonn/bonn_0_leftImg8bit.png", "ulm/ulm_1_leftImg8bit.png"]
    _touch(tmp_path, *kept, "ulm/ulm_1.png", "ulm/deep/ulm_2_leftImg8bit.png", "ulm_3_leftImg8bit.png")
    images = list_city_images(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in images] == kept
    assert [frame_stem(path) for path in images] == ["bonn_0", "ulm_1"]
    assert list_city_images(tmp_path / "none") == []


def test_frame_stem__other_names_stay_whole() -> None:
    assert frame_stem(Path("a.png")) == "a.png"
