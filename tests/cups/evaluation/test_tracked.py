"""Clips through the whole prediction: numbers last, a killed run goes on with them, clips do not mix."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial, partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from cups.categories import Categories
from cups.errors import UserError
from cups.evaluation import own_images
from cups.evaluation.own_images import OwnImages, predict_own_images
from cups.evaluation.panoptic_export import TRACKS
from cups.io.coco_panoptic import from_rgb
from cups.io.png import read_image, write_png
from cups.prediction import prediction_of
from cups.prediction_settings import PredictionSettings
from cups.structures import PseudoClasses, ThingStuffSplit
from cups.video import clip_tracker
from cups.video.clip_tracker import ClipTracker
from cups.video.clips import clips_of

SIZE = (64, 96)
COLOURS = {1: (230, 30, 30), 2: (30, 30, 230), 3: (230, 220, 30)}
COLOURS_OF_3 = np.zeros((3, 3), np.uint8)
PSEUDO = PseudoClasses(1, 1)


def scene(time: int, clip: int = 0) -> np.ndarray:
    """Return three blocks that move over a texture, their colours and so their order change with the clip."""
    noise = np.random.default_rng(7).normal(110, 40, (*SIZE, 1)).astype(np.float32)
    picture = (
        np.repeat(cv2.GaussianBlur(noise, (0, 0), 1.5)[..., None], 3, axis=2).clip(60, 160).astype(np.uint8)
    )
    for index, colour in COLOURS.items():
        left = (8 + 3 * time) if (index + clip) % 2 else (70 - 3 * time)
        picture[18 * index - 12 : 18 * index, left : left + 16] = colour
    return picture


class Detector:
    """Finds the blocks by colour and numbers them in another order in each frame, as networks do.

    Attributes:
        seen: how many frames it was given.
    """

    def __init__(self) -> None:
        self.seen = 0
        colours = np.zeros((2, 3), np.uint8)
        self.categories = Categories(("stuff 0", "thing 0"), np.array([False, True]), colours, np.arange(2))
        self.split = ThingStuffSplit((1,), (0,))
        self.working_size = SIZE
        self.inference = SimpleNamespace(batch_size=lambda size: 2)

    def predict_batch(self, images: list[np.ndarray]) -> list[Any]:
        return [self._predict(image) for image in images]

    def _predict(self, image: np.ndarray) -> Any:
        self.seen += 1
        numbers = np.ones(image.shape[:2], np.int32)
        found: list[dict[str, Any]] = [{"id": 1, "isthing": False, "category_id": 1, "score": 1.0}]
        for colour in np.random.default_rng(int(image.sum())).permutation(list(COLOURS.values())):
            mask = (image == colour).all(axis=2)
            if mask.any():
                found.append({"id": len(found) + 1, "isthing": True, "category_id": 0, "score": 0.9})
                numbers[mask] = len(found)
        return prediction_of(image, numbers, found, self.categories, PSEUDO)


@pytest.fixture
def frames(tmp_path: Path) -> list[tuple[str, Path]]:
    """Two clips of seven frames in folders of equal names, and a photo."""
    images = []
    for clip in range(2):
        for time in range(7):
            path = tmp_path / "in" / f"clip{clip}" / f"f{time + 8}.png"
            write_png(path, scene(time, clip))
            images.append((f"clip{clip}/f{time + 8}", path))
    write_png(tmp_path / "in" / "photo.png", scene(0))
    images.append(("photo", tmp_path / "in" / "photo.png"))
    for _, path in images:
        os.utime(path, (1, 1))
    return sorted(images)  # f10 comes before f8: names are not sorted as frames are


def run(images: list[tuple[str, Path]], folder: Path, **options: Any) -> Detector:
    network = Detector()
    own = OwnImages(images, folder, overlays=False, **options)
    predict_own_images(network, own, {"checkpoint": "none"})  # type: ignore[arg-type]
    return network


def numbers(folder: Path, name: str, images: list[tuple[str, Path]]) -> dict[int, int]:
    """Return {block: id} of a written frame."""
    ids, image = from_rgb(read_image(folder / "panoptic" / f"{name}.png")), read_image(dict(images)[name])
    return {index: int(ids[(image == colour).all(axis=2)][0]) for index, colour in COLOURS.items()}


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def of_clip(folder: Path, clip: int, images: list[tuple[str, Path]]) -> list[dict[int, int]]:
    return [numbers(folder, f"clip{clip}/f{time}", images) for time in range(8, 15)]


def test_predict__objects_of_a_clip_keep_their_ids(frames: list[tuple[str, Path]], tmp_path: Path) -> None:
    run(frames, tmp_path / "out")
    for clip in range(2):
        found = of_clip(tmp_path / "out", clip, frames)
        assert all(ids == found[0] for ids in found) and sorted(found[0].values()) == [2001, 2002, 2003]
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    listed = [{s["id"] for s in annotation["segments_info"]} for annotation in content["annotations"]]
    assert listed == [{1000, 2001, 2002, 2003}] * 15
    stored = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out" / TRACKS).rglob("*.npz")
    }
    assert stored == {f"{TRACKS}/clip0/f8.npz", f"{TRACKS}/clip1/f8.npz"}


def test_predict__without_tracking_each_frame_counts_anew(
    frames: list[tuple[str, Path]], tmp_path: Path
) -> None:
    run(frames, tmp_path / "out", tracking=False)
    found = of_clip(tmp_path / "out", 0, frames)
    assert any(ids != found[0] for ids in found) and not (tmp_path / "out" / TRACKS).exists()
    with pytest.raises(UserError, match="another tracking"):
        run(frames, tmp_path / "out")


@pytest.mark.parametrize("kill_at", [3, 8, 12])
def test_predict__a_killed_run_goes_on_with_the_same_ids(
    frames: list[tuple[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    run(frames, tmp_path / "whole")
    written: list[Path] = []

    def killed(path: Path, array: np.ndarray) -> None:
        if len(written) == kill_at:
            raise KeyboardInterrupt
        write_png(path, array)
        written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(own_images, "write_png", killed)
        with pytest.raises(KeyboardInterrupt):
            run(frames, tmp_path / "out")
    again = run(frames, tmp_path / "out")
    assert 15 - kill_at <= again.seen <= 15 - kill_at + 2  # what the last batch had begun, too
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert run(frames, tmp_path / "out").seen == 0


def moments(clip: list[tuple[str, Path]], folder: Path, stop_at: int | None) -> int:
    """Predict a clip, killed before or after a map or a state is written; return the number of moments."""
    passed = 0

    def between(write: Callable[..., None], *arguments: Any) -> None:
        nonlocal passed
        for step in (lambda: None, lambda: write(*arguments)):
            step()
            if passed == stop_at:
                raise KeyboardInterrupt
            passed += 1

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(own_images, "write_png", partial(between, write_png))
        patched.setattr(ClipTracker, "save", partialmethod(_called, between, ClipTracker.save))
        run(clip, folder)
    return passed


def _called(tracker: ClipTracker, between: Callable[..., None], save: Callable[..., None]) -> None:
    between(save, tracker)


def test_predict__a_kill_at_any_moment_leaves_the_same_ids(
    frames: list[tuple[str, Path]], tmp_path: Path
) -> None:
    clip = [image for image in frames if image[0].startswith("clip0")]
    count = moments(clip, tmp_path / "whole", None)
    assert count == 2 * (7 + 4), "seven maps, and a state for each batch of two"
    whole = contents(tmp_path / "whole" / "panoptic")
    for moment in range(1, count, 4):
        out = tmp_path / f"killed_at_{moment}"
        with pytest.raises(KeyboardInterrupt):
            moments(clip, out, moment)
        run(clip, out)
        assert contents(out / "panoptic") == whole, moment


def test_predict__photos_with_numbers_are_no_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera numbers photos of different places: each counts its objects anew, and no flow is computed."""
    photos = []
    for number in range(4):
        rng = np.random.default_rng(number)
        rough = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        picture = cv2.resize(rough, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        for place, colour in enumerate(COLOURS.values()):
            left = int(rng.integers(0, 80))
            picture[18 * place + 6 : 18 * place + 18, left : left + 16] = colour
        photos.append((f"IMG_{number:04d}", tmp_path / "in" / f"IMG_{number:04d}.png"))
        write_png(photos[-1][1], picture)
    monkeypatch.setattr(ClipTracker, "number", lambda *_: pytest.fail("followed"))
    run(photos, tmp_path / "out")
    assert not (tmp_path / "out" / TRACKS).exists()
    for name, _ in photos:
        assert sorted(numbers(tmp_path / "out", name, photos).values()) == [2001, 2002, 2003]


def test_predict__frames_of_another_size(frames: list[tuple[str, Path]], tmp_path: Path) -> None:
    """At another scale objects stay the same; in another shape they are new, with numbers of their own."""
    clip = sorted((image for image in frames if image[0].startswith("clip0")), key=lambda i: len(i[0]))
    clip = [*clip[:2], *sorted(clip[2:])]
    for time, (_, path) in enumerate(clip[2:5], start=2):
        write_png(path, np.repeat(np.repeat(scene(time), 2, axis=0), 2, axis=1))
    for time, (_, path) in enumerate(clip[5:], start=5):
        write_png(path, scene(time)[:, : SIZE[1] - 12])
    run(clip, tmp_path / "out")
    found = [numbers(tmp_path / "out", name, clip) for name, _ in clip]
    assert all(ids == found[0] for ids in found[:5]) and found[5] == found[6]
    assert not set(found[5].values()) & set(found[0].values())


@pytest.mark.parametrize(
    "harm", ["no state", "damaged state", "state of another", "missing frame", "newer image"]
)
def test_predict__what_does_not_fit_begins_the_clip_anew(
    frames: list[tuple[str, Path]], tmp_path: Path, harm: str
) -> None:
    out = tmp_path / "out"
    run(frames, out)
    before = contents(out)
    state, png = out / TRACKS / "clip0" / "f8.npz", out / "panoptic" / "clip0" / "f10.png"
    if harm in ("no state", "damaged state", "state of another"):
        (out / "panoptic" / "clip0" / "f14.png").unlink()
    if harm == "no state":
        state.unlink()
    elif harm == "damaged state":
        state.write_bytes(state.read_bytes()[:500])
    elif harm == "state of another":
        shutil.copy(out / TRACKS / "clip1" / "f8.npz", state)
    elif harm == "missing frame":
        png.unlink()
    else:
        os.utime(dict(frames)["clip0/f10"], (2**32, 2**32))
    assert run(frames, out).seen == 7
    after = contents(out)
    assert {name for name in before if before[name] != after[name]} == set()


def test_predict__further_frames_of_a_clip_go_on(frames: list[tuple[str, Path]], tmp_path: Path) -> None:
    few = [image for image in frames if image[0] in {f"clip0/f{time}" for time in range(8, 12)}]
    run(few, tmp_path / "out")
    assert run([image for image in frames if image[0].startswith("clip0")], tmp_path / "out").seen == 3
    found = of_clip(tmp_path / "out", 0, frames)
    assert all(ids == found[0] for ids in found)
    assert run(few, tmp_path / "out").seen == 0


def test_predict__a_frame_that_cannot_be_read(frames: list[tuple[str, Path]], tmp_path: Path) -> None:
    bad = dict(frames)["clip0/f10"]
    good = bad.read_bytes()
    bad.write_bytes(b"no image")
    os.utime(bad, (1, 1))
    run(frames, tmp_path / "out", skip_bad=True)
    found = [numbers(tmp_path / "out", f"clip0/f{time}", frames) for time in (8, 9, 11, 12, 13, 14)]
    assert all(ids == found[0] for ids in found)
    assert run(frames, tmp_path / "out", skip_bad=True).seen == 0
    assert len(json.loads((tmp_path / "out" / "panoptic.json").read_text())["images"]) == 14
    bad.write_bytes(good)
    assert run(frames, tmp_path / "out", skip_bad=True).seen == 7


def test_predict__more_objects_than_numbers(
    frames: list[tuple[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_tracker, "MOST_NUMBERS", 1)
    run(frames[:3], tmp_path / "out")
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    for annotation in content["annotations"]:
        assert {s["id"] for s in annotation["segments_info"]} == {1000, 2000, 2001}


@pytest.mark.parametrize(("votes", "said"), [(False, [1, 1, 2, 1]), (True, [1, 1, 1, 1])])
def test_clip_tracker__the_category_is_the_frames_or_the_votes(
    frames: list[tuple[str, Path]], tmp_path: Path, votes: bool, said: list[int]
) -> None:
    """A vote costs panoptic quality where most frames are wrong; the number lasts in any case."""
    categories = Categories(
        ("stuff 0", "thing 0", "thing 1"), (False, True, True), COLOURS_OF_3, np.arange(3)
    )
    clip = clips_of([image for image in frames if image[0].startswith("clip0")])[0]
    tracker = ClipTracker(clip, 3, tmp_path / "tracks.npz", votes)
    found = []
    for time, (name, thing) in enumerate(zip(clip.names, (0, 0, 1, 0), strict=False)):
        numbers = np.ones(SIZE, np.int32)
        numbers[(scene(time) == COLOURS[1]).all(axis=2)] = 2
        segments: list[dict[str, Any]] = [
            {"id": 1, "isthing": False, "category_id": 1, "score": 1.0},
            {"id": 2, "isthing": True, "category_id": thing, "score": 0.9},
        ]
        alone = prediction_of(scene(time), numbers, segments, categories, PseudoClasses(2, 1))
        (thing_segment,) = (one for one in tracker.number(name, alone).segments if one.isthing)
        found.append((thing_segment.category, thing_segment.id % 1000, thing_segment.name))
    assert found == [(category, 1, f"thing {category - 1}") for category in said]


def test_predict__votes_are_another_setting(frames: list[tuple[str, Path]], tmp_path: Path) -> None:
    run(frames[:2], tmp_path / "out")
    with pytest.raises(UserError, match="another votes"):
        run(frames[:2], tmp_path / "out", votes=True)
    with pytest.raises(UserError, match=r"^`votes`: needs the objects of clips to be followed"):
        PredictionSettings(tmp_path, [tmp_path], tmp_path, tracking=False, votes=True)
