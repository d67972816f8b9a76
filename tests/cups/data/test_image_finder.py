"""From labels to their image, in every layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.data.image_finder import ImageFinder
from cups.errors import UserError
from cups.io.png import write_png
from cups.io.provenance import write_provenance
from tests.clips import make_clip


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("file", "stem"),
    [
        ("leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png", "aachen_000000_000019"),
        (
            "leftImg8bit/val/san_francisco/san_francisco_000000_000019_leftImg8bit.png",
            "san_francisco_000000_000019",
        ),
        ("leftImg8bit_sequence/train/ulm/ulm_000000_000019_leftImg8bit.png", "ulm_000000_000019"),
        ("leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.jpg", "aachen_000000_000019"),
        ("leftImg8bit/train/monday/drive_7_leftImg8bit.png", "drive_7"),
        ("clip1/000001.png", "clip1%2F000001"),
        ("100%/a.b.jpg", "100%25%2Fa.b"),
        ("clip1/000001.png", "000001"),  # labels of version 0.2
    ],
)
def test_finder__each_layout(tmp_path: Path, file: str, stem: str) -> None:
    _touch(
        tmp_path,
        file,
        "leftImg8bit/val/ulm/ulm_1_1_leftImg8bit.png" if "leftImg" in file else "clip2/000002.png",
    )
    assert ImageFinder(tmp_path)(stem) == tmp_path / file
    with pytest.raises(UserError, match=r"no image for none_leftImg8bit_semantic\.png"):
        ImageFinder(tmp_path)("none")


def test_finder__a_video(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a" / "clip.mp4", frames=2)
    assert ImageFinder(clip)("000001") == clip / "000001"
    assert ImageFinder(tmp_path)("a%2Fclip%2F000001") == clip / "000001"


def test_finder__the_folder_that_was_labelled_decides(tmp_path: Path) -> None:
    _touch(tmp_path, "data/left/1.png", "data/right/1.png", "data/right/deep/1.png")
    with pytest.raises(
        UserError, match=r"3 images are named 1 \(.*\); give `data_root` the folder that the labels"
    ):
        ImageFinder(tmp_path / "data")("1")
    for told in (tmp_path / "data" / "right", Path("elsewhere/right")):
        write_provenance(tmp_path / "labels", script="convert", arguments={"image_dir": str(told)})
        found = ImageFinder(tmp_path / "data", tmp_path / "labels")("1")
        assert found == tmp_path / "data" / "right" / "1.png"


def test_finder__labels_of_a_folder_above(tmp_path: Path) -> None:
    _touch(tmp_path, "voc/JPEGImages/1.jpg")
    assert ImageFinder(tmp_path / "voc" / "JPEGImages")("JPEGImages%2F1").name == "1.jpg"


def test_finder__never_a_mask(tmp_path: Path) -> None:
    for number in range(2):
        photo = np.random.default_rng(number).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        write_png(tmp_path / "JPEGImages" / f"{number}.png", photo)
        write_png(tmp_path / "SegmentationClass" / f"{number}.png", np.eye(24, 32, dtype=np.uint8))
    assert ImageFinder(tmp_path)("1") == tmp_path / "JPEGImages" / "1.png"
