"""Videos as folders of frames, on clips made here."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from cups.data.utils import ImageFolder
from cups.errors import UserError
from cups.io import video
from cups.io.images import frame_names, list_images, scan_images
from cups.io.png import image_size, read_image
from cups.io.provenance import describe_input
from cups.io.video import frame_paths, frame_rate, is_frame, is_video
from tests.clips import FRAMES, HEIGHT, WIDTH, make_clip, number_of


@pytest.fixture(scope="module")
def clip(make_folder: Callable[[str], Path]) -> Path:
    return make_clip(make_folder("video") / "clip.mp4")


def test_video__is_listed_as_its_frames(clip: Path) -> None:
    images = list_images(clip)
    assert len(images) == FRAMES and images[11] == clip / "000011"
    assert is_video(clip) and is_frame(images[0]) and not is_frame(clip)
    assert frame_names(clip, images)[:2] == ["000000", "000001"]
    assert image_size(images[0]) == (HEIGHT, WIDTH) and frame_rate(clip) == 25.0


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.mpg", "mpeg2video"),
        ("a.mts", "libx264"),
    ],
)
def test_read_image__every_frame_in_any_order(tmp_path: Path, name: str, codec: str) -> None:
    paths = frame_paths(make_clip(tmp_path / name, codec))
    assert [number_of(read_image(path)) for path in paths] == list(range(FRAMES))
    some = np.random.default_rng(0).permutation(FRAMES)[:12]
    assert [number_of(read_image(paths[number])) for number in some] == some.tolist()


def test_read_image__in_order_each_frame_is_decoded_once(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, opened = frame_paths(clip), []
    video._forget_readers()
    monkeypatch.setattr(video, "_opened", lambda path, open=video._opened: opened.append(path) or open(path))
    with ThreadPoolExecutor(3) as pool:
        found = [number_of(picture) for picture in pool.map(read_image, paths)]
    assert found == list(range(FRAMES)) and len(opened) <= 2


def test_read_image__a_forked_process_opens_the_video_anew(clip: Path) -> None:
    paths = frame_paths(clip)
    read_image(paths[3])
    child = os.fork()
    if child == 0:
        right = [number_of(read_image(path)) for path in paths[4:9]] == list(range(4, 9))
        os._exit(0 if right else 1)
    assert number_of(read_image(paths[4])) == 4
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))])
def test_read_image__stands_as_the_camera_says(
    tmp_path: Path, rotation: int, corner: tuple[int, int]
) -> None:
    first = frame_paths(make_clip(tmp_path / "phone.mov", rotation=rotation, frames=3))[0]
    picture = read_image(first)
    assert picture.shape[:2] == image_size(first) == ((WIDTH, HEIGHT) if rotation % 180 else (HEIGHT, WIDTH))
    reddest = [place for place in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if int(picture[place][1]) < 15]
    assert reddest == [corner], "counter-clockwise by the rotation"


def test_video__cut_short_keeps_what_can_be_read(
    tmp_path: Path, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = tmp_path / "cut.mkv"
    data = make_clip(tmp_path / "whole.mkv").read_bytes()
    cut.write_bytes(data[: int(len(data) * 0.7)])
    paths = frame_paths(cut)
    assert 8 <= len(paths) < FRAMES and "cut short" in caplog.text
    assert [number_of(read_image(path)) for path in paths] == list(range(len(paths)))
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(clip.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"headless\.mp4: cannot be opened as a video"):
        list_images(headless)


@pytest.mark.parametrize("name", ["phone.mp4", "phone.mkv"])
def test_video__frames_at_uneven_times(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    times = [0, 33, 66, 100, 400, 433, 1000, 1033, 1066, 1500]
    paths = frame_paths(make_clip(tmp_path / name, frames=10, times=times))
    assert frame_rate(tmp_path / name) == pytest.approx(9 / 1.5), "the mean"
    assert [number_of(read_image(path)) for path in paths] == list(range(10)) and not caplog.text


def test_video__a_stream_that_changes_its_size(tmp_path: Path) -> None:
    """Recorders of calls and joined files do so; the first size holds."""
    parts = [
        make_clip(tmp_path / f"{i}.mts", frames=4, size=size) for i, size in enumerate(((48, 64), (96, 96)))
    ]
    joined = tmp_path / "joined.mts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    pictures = [read_image(path) for path in frame_paths(joined)]
    assert [number_of(picture) for picture in pictures] == [0, 1, 2, 3] * 2
    assert {picture.shape for picture in pictures} == {(48, 64, 3)}


def test_video__a_damaged_frame_in_the_middle(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.avi", "mjpeg", frames=8)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        damaged = [packet for packet in container.demux(video=0) if packet.size][4]
        data[damaged.pos + 8 : damaged.pos + damaged.size] = bytes(damaged.size - 8)
    path.write_bytes(data)
    paths = frame_paths(path)
    with pytest.raises(UserError, match=r"clip\.avi/000004: cannot be decoded"):
        read_image(paths[4])
    rest = [*range(4), 5, 6, 7]
    assert [number_of(read_image(paths[number])) for number in rest] == rest


def test_video__one_frame(tmp_path: Path) -> None:
    paths = frame_paths(make_clip(tmp_path / "one.mp4", frames=1))
    assert len(paths) == 1 and number_of(read_image(paths[0])) == 0 and frame_rate(tmp_path / "one.mp4") == 25


def test_video__without_pictures(tmp_path: Path) -> None:
    sound, nothing = tmp_path / "sound.mp4", tmp_path / "nothing.avi"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        container.mux([*stream.encode(silence), *stream.encode()])
    with pytest.raises(UserError, match=r"sound\.mp4: holds no moving pictures"):
        frame_paths(sound)
    make_clip(nothing, "mpeg4", frames=0)
    with pytest.raises(UserError, match=r"nothing\.avi: holds no frame that can be decoded"):
        frame_paths(nothing)


def test_folder__videos_beside_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = make_clip(tmp_path / "b" / "clip.mp4", frames=3)
    (tmp_path / "b" / "other.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "b" / "clip").mkdir()
    (tmp_path / "b" / "clip" / "000001.png").touch()
    (tmp_path / "a.png").touch()
    (tmp_path / "broken.mp4").write_bytes(b"none")
    listing = scan_images(tmp_path)
    names = frame_names(tmp_path, listing.images)
    assert names == [
        "a",
        "b/clip/000001.png",
        *(f"b/clip.mp4/00000{number}" for number in range(3)),
        *(f"b/other/00000{number}" for number in range(3)),
    ]
    assert listing.ignored.total() == 1 and "left out: " in caplog.text


def test_video__in_place_of_a_folder(clip: Path) -> None:
    data = ImageFolder(clip, max_images=5)
    assert [name for name, _ in data.images] == [f"{number:06d}" for number in range(5)]
    assert tuple(data[4].image.shape) == (3, HEIGHT, WIDTH) and data[4].name == "000004"
    assert describe_input(clip)["uses_ground_truth"] is False
    with pytest.raises(UserError, match=r"no such frame; clip\.mp4 has 30"):
        read_image(clip / "000030")
