"""The frame walk."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.png import read_image, write_png
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.options import FrameRun, ShardRun
from pseudo_labels.steps.step import Step, run_step
from tests.clips import make_clip, number_of


def test_frames__cityscapes_sorted_with_relative_folders(cityscapes: Path) -> None:
    frames = FrameSource(cityscapes_root=cityscapes, split="all").frames()
    assert [frame.stem for frame in frames] == ["aaa_000001_000000", "aaa_000002_000000", "bbb_000000_000000"]
    assert frames[0].relative == Path("train/aaa") and frames[0].name == "train/aaa/aaa_000001_000000"


def test_frames__plain_folder_keeps_sub_folders(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "day" / "one.png", np.zeros((4, 4, 3), dtype=np.uint8))
    source = FrameSource(image_dir=tmp_path / "in")
    (frame,) = source.frames()
    assert (frame.stem, frame.relative) == ("one", Path("day"))
    assert source.image_folder == tmp_path / "in" and source.of_split("val") is source


def test_frames__same_name_twice_keeps_the_suffix(tmp_path: Path) -> None:
    for name in ("one.png", "one.jpg", "one.png.jpg", "two.jpg"):
        (tmp_path / name).touch()
    frames = FrameSource(image_dir=tmp_path).frames()
    assert [(frame.name, frame.flat) for frame in frames] == [
        (name, name) for name in ("one.jpg", "one.png", "one.png.jpg", "two")
    ]


def test_part__shards_are_disjoint_and_complete(cityscapes: Path) -> None:
    frames = FrameSource(cityscapes_root=cityscapes).frames()
    parts = [FrameRun(num_shards=2, shard=shard).part(frames) for shard in range(2)]
    assert len({frame.stem for part in parts for frame in part}) == sum(map(len, parts)) == 3


def test_frames__first_images_and_another_split(cityscapes: Path) -> None:
    source = FrameSource(cityscapes_root=cityscapes, max_images=2)
    assert [frame.stem for frame in source.frames()] == ["aaa_000001_000000", "aaa_000002_000000"]
    assert source.of_split("val") == FrameSource(cityscapes_root=cityscapes, split="val", max_images=2)


def test_frames__bad_input(cityscapes: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        FrameSource(cityscapes_root=cityscapes / "nowhere").frames()
    with pytest.raises(UserError, match="val: no such folder"):
        FrameSource(cityscapes_root=cityscapes, split="val").frames()
    (cityscapes / "leftImg8bit" / "val").mkdir()
    with pytest.raises(UserError, match=r"val: no images inside; check `image_dir`$"):
        FrameSource(image_dir=cityscapes / "leftImg8bit" / "val").frames()
    with pytest.raises(UserError, match="no images inside"):
        FrameSource(cityscapes_root=cityscapes, split="val").frames()
    with pytest.raises(UserError, match="either"):
        FrameSource()
    with pytest.raises(UserError, match="either"):
        FrameSource(cityscapes_root=cityscapes, image_dir=cityscapes)
    with pytest.raises(UserError, match=r"^`split` trian: unknown; choose from train, val"):
        FrameSource(cityscapes_root=cityscapes, split="trian")


def test_folder__require_names_what_is_missing(cityscapes: Path) -> None:
    frames, folder = FrameSource(cityscapes_root=cityscapes).frames(), Folder(cityscapes, "labels", ".png")
    with pytest.raises(UserError, match="labels: no such folder; make them"):
        folder.require(frames, "make them")
    for frame in frames[:2]:
        write_png(folder.path(frame), np.zeros((2, 2), np.uint8))
    with pytest.raises(UserError, match=r"labels/train/bbb/bbb_000000_000000\.png: no such file; make them"):
        folder.require(frames, "make them")


def test_frame__flat_names_keep_the_folder_and_those_of_cityscapes_are_bare(tmp_path: Path) -> None:
    for name in ("plain/clip1/100%.png", "city/leftImg8bit/train/san_f/san_f_000000_000019_leftImg8bit.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (plain,) = FrameSource(image_dir=tmp_path / "plain").frames()
    assert (plain.name, plain.flat) == ("clip1/100%", "clip1%2F100%25")
    (city,) = FrameSource(cityscapes_root=tmp_path / "city").frames()
    assert (city.name, city.flat) == ("train/san_f/san_f_000000_000019", "san_f_000000_000019")


def test_frames__of_a_video(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=5)
    source = FrameSource(image_dir=clip, max_images=4)
    frames = source.frames()
    assert [frame.name for frame in frames] == [f"00000{number}" for number in range(4)]
    assert source.report(frames) == "4 images, 48x64, 0 files ignored"
    output, summary = Folder(tmp_path / "out", "pseudo_x", ".png"), []
    for shard in range(2):
        step = Step("test", source, partial(_copy, output), [output])
        run = ShardRun(output_root=tmp_path / "out", num_shards=2, shard=shard)
        summary.append(run_step(source, step, run))
    assert [one.done for one in summary] == [2, 2]
    assert [number_of(read_image(output.path(frame))) for frame in frames] == [0, 1, 2, 3]


def _copy(output: Folder, frame: Frame) -> None:
    write_png(output.path(frame), read_image(frame.image))


def test_frames__other_names_in_the_cityscapes_layout_are_told(tmp_path: Path) -> None:
    write_png(tmp_path / "leftImg8bit" / "train" / "ulm" / "one.png", np.zeros((4, 4, 3), dtype=np.uint8))
    with pytest.raises(UserError, match=r"none of its 1 images is named .*one\.png.*use `image_dir`"):
        FrameSource(cityscapes_root=tmp_path).frames()
