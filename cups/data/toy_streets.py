"""Toy streets: a small rendered city in the Cityscapes layout, for demos, tests and ablations.

Road scenes in short driving sequences, with exact labels, instances, depth and camera. The same arguments
give the same bytes, whatever the number of workers. The renderer is in `cups/data/toy/`.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from cups.allowed import COUNT, SEED, SIDE, WHOLE, WORKERS, Reader, read_path
from cups.data.toy.render import Camera, Frame
from cups.data.toy.scene import BASELINE, build_scene, render_frame
from cups.errors import UserError, run_main
from cups.io.children import start_worker, worker_context
from cups.io.file_names import IMAGE_SUFFIX
from cups.io.files import is_complete_png, read_json, write_json
from cups.io.images import frame_stem
from cups.io.png import read_ids, read_image, write_png
from cups.taxonomy import VOID, class_set
from cups.visualization import depth_to_color, figure_sheet, instances_to_color, semantic_to_color

STAMP = "toy_streets.json"
VERSION = 1
"""Raised whenever the same arguments give other pictures."""
FOLDERS = ("leftImg8bit", "gtFine", "disparity", "camera")
CITIES = (("train", "ahlen"), ("train", "birkental"), ("val", "cronau"))
FRAMES_PER_SEQUENCE = 4
SIZES = (32, 4096)
"""Smallest and largest side in pixels."""


@dataclass(frozen=True)
class Drive:
    """One sequence. Its pictures depend on the seed, `city` (index into `CITIES`) and `number` only."""

    city: int
    number: int
    frames: int

    def stems(self) -> list[str]:
        """Return `{city}_{seq:06}_{frame:06}` of its frames."""
        return [f"{CITIES[self.city][1]}_{self.number:06}_{frame:06}" for frame in range(self.frames)]

    def files(self, root: Path, stem: str) -> dict[str, Path]:
        """Return the files of a frame by kind."""
        place = Path(*CITIES[self.city])
        return {
            "image": root / "leftImg8bit" / place / f"{stem}{IMAGE_SUFFIX}",
            "labelIds": root / "gtFine" / place / f"{stem}_gtFine_labelIds.png",
            "instanceIds": root / "gtFine" / place / f"{stem}_gtFine_instanceIds.png",
            "disparity": root / "disparity" / place / f"{stem}_disparity.png",
            "camera": root / "camera" / place / f"{stem}_camera.json",
        }

    def is_written(self, root: Path) -> bool:
        """Return whether all its files are there and complete."""
        paths = [path for stem in self.stems() for path in self.files(root, stem).values()]
        return all(path.is_file() and (path.suffix == ".json" or is_complete_png(path)) for path in paths)


def _plan(train_frames: int, val_frames: int, clip_frames: int = FRAMES_PER_SEQUENCE) -> list[Drive]:
    """Split the frames into sequences of about `clip_frames` (3-5 of 4), cities in turn."""
    drives = []
    for total, cities in ((train_frames, (0, 1)), (val_frames, (2,))):
        count = max(1, round(total / clip_frames))
        lengths = [len(part) for part in np.array_split(np.arange(total), count)]
        for index, length in enumerate(lengths):
            if length:
                drives.append(Drive(cities[index % len(cities)], index, length))
    return drives


def encode_disparity(depth: np.ndarray, fx: float) -> np.ndarray:
    """Return (H, W) uint16 Cityscapes disparity of (H, W) depth in metres: 256 d + 1, 0 at infinity."""
    disparity = BASELINE * fx / depth
    stored = np.clip(np.round(disparity * 256) + 1, 1, 65535)
    return np.where(np.isinf(depth), 0, stored).astype(np.uint16)


def encode_instances(frame: Frame) -> np.ndarray:
    """Return (H, W) uint16 Cityscapes instance ids: id * 1000 + number for things, id for stuff."""
    number = frame.label * 1000 + frame.instance
    return np.where(frame.instance >= 0, number, frame.label).astype(np.uint16)


def _camera_file(camera: Camera) -> dict[str, Any]:
    extrinsic = {
        "baseline": BASELINE,
        "pitch": camera.pitch,
        "roll": 0.0,
        "x": 0.0,
        "y": 0.0,
        "yaw": -camera.yaw,
        "z": camera.position[1],
    }
    intrinsic = {"fx": camera.fx, "fy": camera.fy, "u0": camera.u0, "v0": camera.v0}
    return {"extrinsic": extrinsic, "intrinsic": intrinsic}


def _write_drive(drive: Drive, root: Path, seed: int, height: int, width: int) -> int:
    """Render one sequence and return its number of frames."""
    # The palette belongs to the city, the scene to the sequence: neither knows how many others there are.
    palette = np.random.default_rng((seed, drive.city)).permutation(7)[:5]
    scene = build_scene(np.random.default_rng((seed, drive.city, drive.number)), drive.number, palette)
    for frame, stem in enumerate(drive.stems()):
        noise = np.random.default_rng((seed, drive.city, drive.number, frame + 1))
        image, exact, camera = render_frame(scene, frame, height, width, noise)
        paths = drive.files(root, stem)
        write_png(paths["image"], image)
        write_png(paths["labelIds"], exact.label.astype(np.uint8))
        write_png(paths["instanceIds"], encode_instances(exact))
        write_png(paths["disparity"], encode_disparity(exact.depth, camera.fx))
        write_json(paths["camera"], _camera_file(camera), indent=4)
    return drive.frames


def _start_worker() -> None:
    start_worker()
    cv2.setNumThreads(1)


def _results(drives: Seq[Drive], arguments: tuple[Any, ...], workers: int) -> Iterator[int]:
    if min(workers, len(drives)) <= 1:
        for drive in drives:
            yield _write_drive(drive, *arguments)
        return
    with ProcessPoolExecutor(min(workers, len(drives)), worker_context(), _start_worker) as pool:
        futures = [pool.submit(_write_drive, drive, *arguments) for drive in drives]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:  # an interrupted run waits for no more than is under way
                future.cancel()


def _check(parameters: dict[str, int]) -> None:
    for name in ("train_frames", "val_frames", "seed"):
        if parameters[name] < 0:
            raise UserError(f"`{name}` {parameters[name]}: must not be negative; give 0 or more")
    if parameters.get("clip_frames", 1) < 1:
        raise UserError(f"`clip_frames` {parameters['clip_frames']}: must be at least 1")
    if parameters["train_frames"] + parameters["val_frames"] == 0:
        raise UserError("`train_frames` 0, `val_frames` 0: nothing to write; give at least one frame")
    for name in ("height", "width"):
        if not SIZES[0] <= parameters[name] <= SIZES[1]:
            raise UserError(f"`{name}` {parameters[name]}: give {SIZES[0]} to {SIZES[1]} pixels")


def _read_stamp(root: Path) -> dict[str, Any] | None:
    """Return what the folder says about itself, or None for a new folder; refuse any other folder."""
    path = root / STAMP
    if path.is_file():
        return read_json(path, "remove the folder or choose another")
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; give a folder")
    present = [name for name in FOLDERS if (root / name).exists()]
    if present:
        raise UserError(f"{root}: holds {present[0]}/ of another data set; give another `output`")
    return None


def _clear(root: Path, parameters: dict[str, int], overwrite: bool) -> None:
    """Remove a toy data set if `overwrite`.

    Raises:
        UserError: one of other arguments stays, or the folder holds something else.
    """
    stamp = _read_stamp(root)
    if stamp is not None and overwrite:
        for name in FOLDERS:
            shutil.rmtree(root / name, ignore_errors=True)
    elif stamp is not None and (stamp.get("parameters"), stamp.get("version")) != (parameters, VERSION):
        raise UserError(
            f"{root}: holds toy streets of other arguments; add `overwrite` or give another `output`"
        )


def _write_stamp(root: Path, parameters: dict[str, int], finished: bool) -> None:
    content = {"parameters": parameters, "version": VERSION, "finished": finished}
    write_json(root / STAMP, content)


def write_dataset(
    root: Path | str,
    *,
    train_frames: int = 90,
    val_frames: int = 20,
    height: int = 192,
    width: int = 384,
    seed: int = 0,
    clip_frames: int = FRAMES_PER_SEQUENCE,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write toy streets below `root` in the Cityscapes layout, and return `root`.

    Files: `leftImg8bit/`, `gtFine/` (labelIds, instanceIds), `disparity/` (uint16, 256 d + 1, 0 for the sky;
    depth in metres = baseline * fx / d) and `camera/`; two train cities and a val city, in sequences of
    `clip_frames` frames, or one more or less.
    A finished data set with the same arguments is left alone, a broken-off one is completed.

    Args:
        height, width: pixels; the field of view belongs to the width.
        clip_frames: length of the sequences. Things go on as they move, so in long ones (20 to 30) the camera
            passes many, and a few drive through each other.
        workers: processes (default: one for each core); they do not change a byte.
        overwrite: remove a toy data set with other arguments first.
        progress: show a bar.

    Raises:
        UserError: impossible arguments, or a folder that holds something else.
    """
    root = Path(root)
    parameters = {
        "train_frames": train_frames,
        "val_frames": val_frames,
        "height": height,
        "width": width,
        "seed": seed,
    }
    if clip_frames != FRAMES_PER_SEQUENCE:  # stamps of before it hold no length
        parameters["clip_frames"] = clip_frames
    _check(parameters)
    if workers is not None and workers < 1:
        raise UserError(f"`workers` {workers}: must be at least 1")
    _clear(root, parameters, overwrite)
    drives = [drive for drive in _plan(train_frames, val_frames, clip_frames) if not drive.is_written(root)]
    if drives:
        _write_stamp(root, parameters, finished=False)
        total, cores = sum(drive.frames for drive in drives), workers or os.cpu_count() or 1
        with tqdm(total=total, desc="toy streets", unit="frame", disable=not progress) as bar:
            for count in _results(drives, (root, seed, height, width), cores):
                bar.update(count)
    _write_stamp(root, parameters, finished=True)
    return root


def contact_sheet(root: Path, count: int) -> np.ndarray:
    """Draw `count` frames of a written data set, spread over it: image | semantics | instances | depth."""
    images = sorted((root / "leftImg8bit").rglob(f"*{IMAGE_SUFFIX}"))
    chosen = [images[index] for index in np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]
    classes, rows, names = class_set(27), [], []
    for path in chosen:
        stem = frame_stem(path)
        place = path.parent.relative_to(root / "leftImg8bit")
        truth = root / "gtFine" / place / f"{stem}_gtFine"
        labels, ids = (read_ids(Path(f"{truth}_{kind}.png")) for kind in ("labelIds", "instanceIds"))
        disparity = read_ids(root / "disparity" / place / f"{stem}_disparity.png").astype(np.float32)
        semantics = semantic_to_color(classes.from_id[np.minimum(labels, VOID)], classes.colors)
        _, numbers = np.unique(np.where(ids >= 1000, ids, 0), return_inverse=True)
        depth = np.where(disparity > 1, 1 / np.maximum(disparity - 1, 1), 0)
        instances = instances_to_color(numbers.reshape(ids.shape))
        rows.append([read_image(path), semantics, instances, depth_to_color(depth)])
        names.append(stem)
    return figure_sheet(["image", "semantics", "instances", "depth"], rows, names)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description="Render toy streets: a little city in the Cityscapes layout.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output", type=read_path, default=Path("datasets/toy_streets"), help="folder to write"
    )
    parser.add_argument(
        "--train_frames", type=Reader(int, WHOLE), default=90, help="frames of the two train cities"
    )
    parser.add_argument("--val_frames", type=Reader(int, WHOLE), default=20, help="frames of the val city")
    parser.add_argument("--height", type=Reader(int, SIDE), default=192, help="pixels")
    parser.add_argument("--width", type=Reader(int, SIDE), default=384, help="pixels")
    parser.add_argument("--seed", type=Reader(int, SEED), default=0, help="another seed is another city")
    parser.add_argument(
        "--clip_frames", type=Reader(int, COUNT), default=FRAMES_PER_SEQUENCE, help="length of the sequences"
    )
    parser.add_argument(
        "--workers", type=Reader(int, WORKERS), default=None, help="processes; one for each core if not given"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace toy streets of other arguments")
    parser.add_argument(
        "--show", type=Reader(int, WHOLE), default=0, metavar="N", help="write contact_sheet.png of N frames"
    )
    return parser


def main(argv: Seq[str] | None = None) -> int:
    """Entry point."""
    args = build_parser().parse_args(argv)
    root = write_dataset(
        args.output,
        train_frames=args.train_frames,
        val_frames=args.val_frames,
        height=args.height,
        width=args.width,
        seed=args.seed,
        clip_frames=args.clip_frames,
        workers=args.workers,
        overwrite=args.overwrite,
    )
    if args.show > 0:
        write_png(root / "contact_sheet.png", contact_sheet(root, args.show))
    return 0


if __name__ == "__main__":
    run_main(main)
