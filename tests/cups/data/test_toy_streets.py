"""Toy streets: layout, exactness of labels and depth, agreement of frames, determinism, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from cups.data.toy.objects import KERB
from cups.data.toy.render import Camera, Quad, make_texture, render, sample_texture
from cups.data.toy.scene import CAMERA_HEIGHT, CAMERA_X, build_scene, render_frame
from cups.data.toy_streets import (
    FRAMES_PER_SEQUENCE,
    STAMP,
    _plan,
    contact_sheet,
    encode_disparity,
    main,
    write_dataset,
)
from cups.errors import UserError
from cups.io.png import read_ids, read_image
from cups.taxonomy import FIRST_EVALUATED_ID, class_set, label_ids

SIZE = (96, 192)
THINGS = [index + FIRST_EVALUATED_ID for index in class_set(27).things]
EXPECTED = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "bicycle"),
)


@dataclass(frozen=True, eq=False)
class Shot:
    """The files of one frame."""

    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray
    disparity: np.ndarray
    camera: dict[str, dict[str, float]]

    @property
    def depth(self) -> np.ndarray:
        """(H, W) metres by the Cityscapes rule; infinite where unknown."""
        disparity = (self.disparity.astype(np.float64) - 1) / 256
        with np.errstate(divide="ignore"):
            depth = self.camera["extrinsic"]["baseline"] * self.camera["intrinsic"]["fx"] / disparity
        return np.where(self.disparity > 0, depth, np.inf)

    def rays(self) -> np.ndarray:
        """(H, W, 3) world direction of each pixel, scaled to depth 1."""
        intrinsic, extrinsic = self.camera["intrinsic"], self.camera["extrinsic"]
        height, width = self.labels.shape
        place, pitch, yaw = (CAMERA_X, CAMERA_HEIGHT, 0.0), extrinsic["pitch"], -extrinsic["yaw"]
        camera = Camera(
            height, width, *(intrinsic[key] for key in ("fx", "fy", "u0", "v0")), place, pitch, yaw
        )
        x = (np.arange(width) - camera.u0) / camera.fx
        y = (np.arange(height) - camera.v0) / camera.fy
        right, down, forward = camera.axes()
        return forward + x[None, :, None] * right + y[:, None, None] * down


def read_shot(root: Path, split: str, city: str, stem: str) -> Shot:
    place = Path(split) / city
    truth = root / "gtFine" / place / f"{stem}_gtFine"
    return Shot(
        read_image(root / "leftImg8bit" / place / f"{stem}_leftImg8bit.png"),
        read_ids(Path(f"{truth}_labelIds.png")),
        read_ids(Path(f"{truth}_instanceIds.png")),
        read_ids(root / "disparity" / place / f"{stem}_disparity.png"),
        json.loads((root / "camera" / place / f"{stem}_camera.json").read_text()),
    )


def shots(root: Path) -> Iterator[Shot]:
    for path in sorted((root / "leftImg8bit").rglob("*.png")):
        stem = path.name.removesuffix("_leftImg8bit.png")
        yield read_shot(root, path.parts[-3], path.parts[-2], stem)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def root(make_folder: Callable[[str], Path]) -> Path:
    folder = make_folder("toy") / "streets"
    return write_dataset(
        folder, train_frames=6, val_frames=3, height=SIZE[0], width=SIZE[1], workers=1, progress=False
    )


def test_write_dataset__has_the_cityscapes_layout(root: Path) -> None:
    files = set(contents(root))
    for split, city, stem in (
        ("train", "ahlen", "ahlen_000000_000002"),
        ("train", "birkental", "birkental_000001_000002"),
        ("val", "cronau", "cronau_000000_000002"),
    ):
        assert f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png" in files
        assert f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png" in files
        assert f"gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png" in files
        assert f"disparity/{split}/{city}/{stem}_disparity.png" in files
        assert f"camera/{split}/{city}/{stem}_camera.json" in files
    assert len(files) == 5 * 9 + 1
    shot = next(shots(root))
    assert shot.image.shape == (*SIZE, 3)
    assert shot.labels.dtype == np.uint8 and shot.labels.shape == SIZE
    assert shot.instances.dtype == shot.disparity.dtype == np.uint16


def test_write_dataset__instances_agree_with_labels(root: Path) -> None:
    for shot in shots(root):
        thing = np.isin(shot.labels, THINGS)
        assert np.array_equal(shot.instances[thing] // 1000, shot.labels[thing])
        assert np.array_equal(shot.instances[~thing], shot.labels[~thing])
        assert len(np.unique(shot.instances[thing])) >= 3


def test_write_dataset__both_splits_show_every_class(root: Path) -> None:
    for split in ("train", "val"):
        paths = (root / "gtFine" / split).rglob("*_labelIds.png")
        seen = set(np.unique(np.concatenate([np.unique(read_ids(path)) for path in paths])).tolist())
        assert [name for name in EXPECTED if label_ids()[name] not in seen] == []


def test_disparity__ground_lies_on_its_plane(root: Path) -> None:
    for shot in shots(root):
        down = -shot.rays()[..., 1]
        for name, height in (("road", 0.0), ("terrain", None)):
            pixels = shot.labels == label_ids()[name]
            heights = CAMERA_HEIGHT - down[pixels] * shot.depth[pixels]
            # Half a step of the stored disparity, seen as height.
            step = down[pixels] * shot.depth[pixels] / np.maximum(shot.disparity[pixels], 1.0)
            if height is not None:
                assert np.all(np.abs(heights - height) <= step)
            else:
                # Meadow just below the street, verge on the kerb.
                assert np.all(np.minimum(np.abs(heights + 0.03), np.abs(heights - KERB)) <= step)


def test_disparity__is_unknown_in_the_sky_alone(root: Path) -> None:
    for shot in shots(root):
        assert np.array_equal(shot.disparity == 0, shot.labels == label_ids()["sky"])


def test_disparity__orders_what_occludes(root: Path) -> None:
    """A billboard has one depth, and the street in the row below its feet is not farther than it."""
    shot = read_shot(root, "train", "ahlen", "ahlen_000000_000000")
    rider = shot.labels == label_ids()["rider"]
    assert np.ptp(shot.depth[rider]) < 0.02 * shot.depth[rider].mean()
    rows, columns = np.nonzero(shot.labels == label_ids()["bicycle"])
    lowest = rows.argmax()
    below = shot.depth[rows[lowest] + 2, columns[lowest]]
    assert below <= shot.depth[rows[lowest], columns[lowest]] * 1.01


def test_frames__agree_under_the_motion_of_the_camera() -> None:
    """Warping a frame by depth and motion gives the previous one back where nothing moves."""
    scene = build_scene(np.random.default_rng((0, 0, 0)), 0, np.arange(5))
    (first, truth, camera), (second, later, moved) = (
        render_frame(scene, frame, 192, 384, np.random.default_rng(frame)) for frame in (0, 1)
    )
    x = (np.arange(camera.width) - camera.u0) / camera.fx
    y = (np.arange(camera.height) - camera.v0) / camera.fy
    right, down, forward = camera.axes()
    rays = forward + x[None, :, None] * right + y[:, None, None] * down
    known = np.isfinite(truth.depth)
    points = np.asarray(camera.position) + rays[known] * truth.depth[known][:, None]
    column, row, depth = np.float32(moved.project(points).T)

    def look(values: np.ndarray, how: int) -> np.ndarray:
        parts = [
            cv2.remap(values, c[None], r[None], how, borderValue=-9)
            for c, r in zip(np.array_split(column, 8), np.array_split(row, 8), strict=True)
        ]
        return np.concatenate(parts, axis=1)[0]

    static = (truth.instance[known] < 0) & (look(later.instance.astype(np.float32), cv2.INTER_NEAREST) == -1)
    visible = np.abs(look(later.depth, cv2.INTER_NEAREST) / depth - 1) < 0.03
    chosen = (
        static & visible & (look(later.label.astype(np.float32), cv2.INTER_NEAREST) == truth.label[known])
    )
    assert chosen.mean() > 0.5
    here = cv2.GaussianBlur(first.astype(np.float32), (0, 0), 0.8)[known][chosen]
    there = look(cv2.GaussianBlur(second.astype(np.float32), (0, 0), 0.8), cv2.INTER_LINEAR)[chosen]
    unmoved = cv2.GaussianBlur(second.astype(np.float32), (0, 0), 0.8)[known][chosen]
    error = np.abs(here - there).mean()
    assert error < 6
    assert error < 0.5 * np.abs(here - unmoved).mean()


def test_write_dataset__same_bytes_for_any_number_of_workers(root: Path, tmp_path: Path) -> None:
    again = write_dataset(
        tmp_path / "b", train_frames=6, val_frames=3, height=96, width=192, workers=2, progress=False
    )
    assert contents(again) == contents(root)


def test_write_dataset__a_frame_does_not_depend_on_how_many_there_are(root: Path, tmp_path: Path) -> None:
    small = write_dataset(
        tmp_path, train_frames=0, val_frames=1, height=96, width=192, workers=1, progress=False
    )
    ours, theirs = contents(small), contents(root)
    ours.pop(STAMP)
    assert ours and all(theirs[name] == content for name, content in ours.items())


def test_write_dataset__seed_changes_the_city(root: Path, tmp_path: Path) -> None:
    other = write_dataset(
        tmp_path, train_frames=0, val_frames=1, height=96, width=192, seed=1, workers=1, progress=False
    )
    name = "leftImg8bit/val/cronau/cronau_000000_000000_leftImg8bit.png"
    assert (other / name).read_bytes() != (root / name).read_bytes()


def test_write_dataset__completes_what_was_broken_off(tmp_path: Path) -> None:
    arguments = {
        "train_frames": 2,
        "val_frames": 1,
        "height": 64,
        "width": 128,
        "workers": 1,
        "progress": False,
    }
    folder = write_dataset(tmp_path / "a", **arguments)  # type: ignore[arg-type]
    before = contents(folder)
    victim = next((folder / "leftImg8bit" / "val").rglob("*.png"))
    victim.write_bytes(victim.read_bytes()[:-20])
    untouched = next((folder / "leftImg8bit" / "train").rglob("*.png"))
    time = untouched.stat().st_mtime_ns
    write_dataset(folder, **arguments)  # type: ignore[arg-type]
    assert contents(folder) == before
    assert untouched.stat().st_mtime_ns == time


def test_write_dataset__other_arguments_need_overwrite(tmp_path: Path) -> None:
    arguments = {"val_frames": 1, "height": 64, "width": 128, "workers": 1, "progress": False}
    write_dataset(tmp_path, train_frames=1, **arguments)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="`overwrite`"):
        write_dataset(tmp_path, train_frames=0, **arguments)  # type: ignore[arg-type]
    write_dataset(tmp_path, train_frames=0, overwrite=True, **arguments)  # type: ignore[arg-type]
    assert len(list((tmp_path / "leftImg8bit").rglob("*.png"))) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_write_dataset__never_touches_another_data_set(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "gtFine").mkdir()
    with pytest.raises(UserError, match="another data set"):
        write_dataset(tmp_path, overwrite=overwrite, progress=False)
    assert (tmp_path / "gtFine").is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 8}, "`height` 8"),
        ({"width": 99999}, "`width` 99999"),
        ({"train_frames": -1}, "`train_frames` -1"),
        ({"seed": -3}, "`seed` -3"),
        ({"train_frames": 0, "val_frames": 0}, "nothing to write"),
        ({"workers": 0}, "`workers` 0"),
    ],
)
def test_write_dataset__refuses_impossible_arguments(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_dataset(tmp_path / "x", progress=False, **change)  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_write_dataset__refuses_a_broken_stamp(tmp_path: Path) -> None:
    (tmp_path / STAMP).write_text("{")
    with pytest.raises(UserError, match=STAMP):
        write_dataset(tmp_path, progress=False)


def test_main__writes_a_contact_sheet(tmp_path: Path) -> None:
    flags = ["--train_frames", "0", "--val_frames", "1", "--height", "64", "--width", "128", "--workers", "1"]
    assert main(["--output", str(tmp_path), "--show", "2", *flags]) == 0
    sheet = read_image(tmp_path / "contact_sheet.png")
    assert np.array_equal(sheet, contact_sheet(tmp_path, 2))


@pytest.mark.parametrize("total", [3, 6, 7, 11, 14, 20, 60, 90])
def test_plan__sequences_have_three_to_five_frames(total: int) -> None:
    drives = _plan(total, 0)
    assert sum(drive.frames for drive in drives) == total
    assert all(3 <= drive.frames <= FRAMES_PER_SEQUENCE + 1 for drive in drives)


def test_encode_disparity__by_hand() -> None:
    # 0.22 m * 100 px / 11 m = 2 px -> 2 * 256 + 1
    assert encode_disparity(np.array([[11.0, np.inf]]), 100.0).tolist() == [[513, 0]]


def test_render__nearer_quad_hides_farther_one() -> None:
    """Camera at the origin, 3 x 5 pixels, focal length 1 pixel: at depth z a column is z metres wide."""
    texture = make_texture(np.ones((4, 4, 3)), (1.0, 1.0))

    def wall(left: float, right: float, z: float, label: int) -> Quad:
        origin, across = np.array((left, -50.0, z)), np.array((right - left, 0.0, 0.0))
        return Quad(origin, across, np.array((0.0, 100.0, 0.0)), texture, label, label)

    camera = Camera(3, 5, 1.0, 1.0, 2.0, 1.0, (0.0, 0.0, 0.0))
    near, far, behind = wall(-1.0, 3.0, 2.0, 1), wall(-7.0, 7.0, 4.0, 2), wall(-9.0, 9.0, -1.0, 3)
    for order in ([near, far, behind], [behind, far, near]):
        frame = render(order, camera, np.zeros((3, 5, 3)), 9)
        # near covers columns -0.5..1.5 around the middle, far -1.75..1.75
        assert frame.label[1].tolist() == [9, 2, 1, 1, 9]
        assert frame.depth[1].tolist() == [np.inf, 4.0, 2.0, 2.0, np.inf]


def test_render__cuts_a_floor_at_the_near_plane() -> None:
    texture = make_texture(np.ones((4, 4, 3)), (1.0, 1.0))
    origin, across, up = np.array((-9.0, -1.0, -9.0)), np.array((18.0, 0, 0)), np.array((0, 0, 99.0))
    frame = render(
        [Quad(origin, across, up, texture, 7)], Camera(4, 4, 2.0, 2.0, 1.5, 1.5, (0.0, 0.0, 0.0)), None, 9
    )
    # Rows below the horizon (row 1.5): depth = focal / (row - 1.5).
    assert frame.label[:, 1].tolist() == [9, 9, 7, 7]
    assert np.allclose(frame.depth[2:, 1], [4.0, 4 / 3])


def test_camera__scaled_keeps_pixel_borders() -> None:
    camera = Camera(10, 20, 9.0, 9.0, 9.5, 4.5, (0.0, 1.0, 0.0), pitch=0.1, yaw=0.05)
    point = np.array([[1.0, 0.5, 7.0]])
    column, row, depth = camera.project(point)[0]
    assert np.allclose(camera.scaled(2).project(point)[0], (2 * column + 0.5, 2 * row + 0.5, depth))


def test_sample_texture__levels_average() -> None:
    stripes = np.repeat(np.tile((0.0, 1.0), 8)[None], 16, 0)[..., None] * np.ones(3)
    texture, half = make_texture(stripes, (1.0, 1.0)), np.full((1, 1), 0.53, np.float32)
    assert np.allclose(
        sample_texture(texture, half, half, np.full((1, 1), 2, np.float32))[0, 0], (0.5, 0.5, 0.5, 1)
    )
