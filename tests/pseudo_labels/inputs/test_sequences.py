"""Finding a frame's neighbours and camera, and what the training gets of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.errors import UserError
from cups.io.png import read_image, write_png
from cups.ops.motion import LEAST_MOVED
from cups.structures import Draw
from pseudo_labels.inputs.sequences import (
    Clip,
    ClipDataset,
    centred_camera,
    change_colors,
    feed_camera,
    feed_image,
    find_clips,
    share_that_moves,
)
from pseudo_labels.steps.frames import FrameSource

HEIGHT, WIDTH = 32, 64
OFFSETS = (-1, 1)


def _write(root: Path, folder: str, stem: str) -> Path:
    path = root / folder / "train" / "aachen" / f"{stem}_leftImg8bit.png"
    shade = np.random.default_rng(len(stem)).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_png(path, shade)
    return path


def _write_camera(root: Path, stem: str, **intrinsic: float) -> Path:
    path = root / "camera" / "train" / "aachen" / f"{stem}_camera.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"fx": 60.0, "fy": 58.0, "u0": 30.0, "v0": 14.0, **intrinsic}
    path.write_text(json.dumps({"intrinsic": values}))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sequences inside leftImg8bit: frames 3, 4, 5 of the first, a lone frame of the second."""
    for stem in ("000000_000003", "000000_000004", "000000_000005", "000001_000009"):
        _write(tmp_path, "leftImg8bit", f"aachen_{stem}")
    _write_camera(tmp_path, "aachen_000000_000004")
    return tmp_path


def test_find_clips__neighbours_by_number(root: Path) -> None:
    clips = find_clips(FrameSource(root), OFFSETS)
    names = [[p.name[14:20] if p else None for p in (clip.image, *clip.sources)] for clip in clips]
    assert names == [
        ["000003", None, "000004"],
        ["000004", "000003", "000005"],
        ["000005", "000004", None],
    ]
    # The one camera file serves its whole sequence.
    assert all(clip.camera is not None and clip.camera.name.endswith("04_camera.json") for clip in clips)


def test_find_clips__whole_sequences_where_there_are(root: Path) -> None:
    for number in range(10, 14):
        _write(root, "leftImg8bit_sequence", f"aachen_000000_{number:06}")
    clips = find_clips(FrameSource(root), OFFSETS)
    assert len(clips) == 4 and all("leftImg8bit_sequence" in str(clip.image) for clip in clips)
    assert len(find_clips(FrameSource(root, max_images=3), OFFSETS)) == 3


def test_find_clips__nearest_camera(root: Path) -> None:
    near = _write_camera(root, "aachen_000000_000025")
    _write(root, "leftImg8bit", "aachen_000000_000015")
    _write(root, "leftImg8bit", "aachen_000000_000016")
    clips = find_clips(FrameSource(root), OFFSETS)
    assert [clip.camera == near for clip in clips] == [False, False, False, True, True]


def _pairs(folder: Path, *names: str) -> list[tuple[str, str]]:
    for name in names:
        write_png(folder / f"{name}.png", np.zeros((2, 2), np.uint8))
    clips = find_clips(FrameSource(image_dir=folder), (1,), focal=1.0)
    return [(clip.image.stem, source.stem) for clip in clips for source in clip.sources if source]


def test_find_clips__frames_without_zeros_are_neighbours_by_number(tmp_path: Path) -> None:
    """As `ffmpeg ... frame%d.png` names them: sorted as text, frame1 came before frame10."""
    pairs = _pairs(tmp_path, *(f"frame{number}" for number in (*range(1, 13), 20, 21)))
    numbers = [(int(one[5:]), int(other[5:])) for one, other in pairs]
    assert sorted(numbers) == [(number, number + 1) for number in (*range(1, 12), 20)]


def test_find_clips__two_clips_in_one_folder_do_not_mix(tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, *(f"{clip}_00{number}" for clip in ("morning", "night") for number in (1, 2, 3)))
    assert sorted(pairs) == [
        (f"{clip}_00{number}", f"{clip}_00{number + 1}") for clip in ("morning", "night") for number in (1, 2)
    ]


def test_find_clips__a_camera_that_stands_still(tmp_path: Path) -> None:
    """The same picture again and again, noise or not, moves nowhere; a shift of a pixel does."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (12, 24), dtype=np.uint8), np.ones((4, 4), np.uint8))
    shares = {}
    for name, shift, noise in (("same", 0, 0.0), ("noisy", 0, 2.0), ("driven", 1, 2.0)):
        for number in range(4):
            moved = np.roll(scene, shift * number, axis=1) + rng.normal(0, noise, scene.shape)
            write_png(tmp_path / name / f"{number}.png", moved.clip(0, 255).astype(np.uint8))
        clips = find_clips(FrameSource(image_dir=tmp_path / name), OFFSETS, focal=1.0)
        shares[name] = share_that_moves(clips, scene.shape, 0.0)
    assert shares["same"] == 0 and shares["noisy"] < LEAST_MOVED < 0.3 < shares["driven"]


def test_find_clips__plain_folder_in_sorted_order(tmp_path: Path) -> None:
    for name in ("a/one.png", "a/two.png", "b/alone.png"):
        write_png(tmp_path / name, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    clips = find_clips(FrameSource(image_dir=tmp_path), OFFSETS, focal=1.1)
    assert clips == [
        Clip(tmp_path / "a/one.png", (None, tmp_path / "a/two.png"), None),
        Clip(tmp_path / "a/two.png", (tmp_path / "a/one.png", None), None),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    (
        ("lonely", r"no frame has a neighbour \(-1 \+1\).*leftImg8bit_sequence"),
        ("no camera", r"aachen_000000_\*_camera.json: no such file.*`focal`"),
        ("bad name", "not named"),
        ("plain", "`focal`: missing"),
    ),
)
def test_find_clips__bad_input(root: Path, change: str, message: str) -> None:
    source = FrameSource(image_dir=root) if change == "plain" else FrameSource(root)
    if change == "lonely":
        for number in (4, 5):
            (root / f"leftImg8bit/train/aachen/aachen_000000_{number:06}_leftImg8bit.png").unlink()
    if change == "no camera":
        (root / "camera/train/aachen/aachen_000000_000004_camera.json").unlink()
    if change == "bad name":
        _write(root, "leftImg8bit", "aachen_frame")
    with pytest.raises(UserError, match=message):
        find_clips(source, OFFSETS)


def test_feed_camera__follows_the_pixels() -> None:
    """The four corners of the kept rows stay corners: -0.5 and length - 0.5 in both images."""
    camera = np.array([[500.0, 0, 400.0], [0, 520.0, 190.0], [0, 0, 1]])
    fed = feed_camera(camera, (400, 800), (96, 160), 0.25)
    for raw, small in (((-0.5, -0.5), (-0.5, -0.5)), ((799.5, 299.5), (159.5, 95.5))):
        ray = np.linalg.inv(camera) @ (*raw, 1)
        assert np.allclose((fed @ ray)[:2], small)


def test_feed_image__crops_and_resizes() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[30:] = 255
    fed = feed_image(image, (15, 30), 0.25)
    assert fed.shape == (15, 30, 3) and fed.max() == 0
    assert np.array_equal(feed_image(image, (40, 60), 0.0), image)


def test_clip_dataset__item(root: Path) -> None:
    clips = find_clips(FrameSource(root), OFFSETS)
    dataset = ClipDataset(clips, (HEIGHT, WIDTH), cache_bytes=1 << 20)
    item = dataset[Draw(0, 5)]
    assert item["target"].shape == (3, HEIGHT, WIDTH) and item["sources"].shape == (2, 3, HEIGHT, WIDTH)
    assert item["present"].tolist() == [False, True]
    assert torch.equal(item["sources"][0], item["target"])
    again = ClipDataset(clips, (HEIGHT, WIDTH))[Draw(0, 5)]
    assert all(torch.equal(item[key], again[key]) for key in item)


def test_clip_dataset__mirrors_image_and_camera(root: Path) -> None:
    clips = find_clips(FrameSource(root), OFFSETS)
    dataset = ClipDataset(clips, (HEIGHT, WIDTH))
    plain = torch.from_numpy(read_image(clips[1].image).copy()).permute(2, 0, 1) / 255
    seen = set()
    for number in range(12):
        item = dataset[Draw(1, number)]
        mirrored = item["intrinsics"][0, 2].item() == WIDTH - 1 - 30
        seen.add(mirrored)
        assert torch.equal(item["target"], plain.flip(2) if mirrored else plain)
    assert seen == {False, True}


def test_centred_camera__looks_at_the_middle() -> None:
    camera = centred_camera(1.1, (20, 40))
    assert camera[0, 0] == camera[1, 1] == pytest.approx(44.0)
    assert camera[0, 2] == 19.5 and camera[1, 2] == 9.5


def test_change_colors__identity_and_factors() -> None:
    images = torch.rand(2, 3, 4, 5)
    assert torch.allclose(change_colors(images, torch.ones(2, 3)), images, atol=1e-6)
    gray = change_colors(images, torch.tensor([[1.0, 1.0, 0.0], [0.5, 1.0, 1.0]]))
    assert torch.allclose(gray[0, 0], gray[0, 2], atol=1e-6)
    assert torch.allclose(gray[1], images[1] / 2, atol=1e-6)


def test_find_clips__layout_saved_as_jpg(root: Path) -> None:
    for path in (root / "leftImg8bit").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    assert len(find_clips(FrameSource(root), OFFSETS)) == 3
