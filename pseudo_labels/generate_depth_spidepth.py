"""Stage 1: one depth map per image, from a stereo disparity map or a network."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.ops.png import read_ids, read_image
from pseudo_labels.executor import run_script
from pseudo_labels.labels import DEPTH_FOLDER
from pseudo_labels.stage import (
    Folder,
    Frame,
    list_frames,
    make_parser,
    output_root,
    read_npy,
    run_stage,
    write_npy,
)

SCRIPT = "generate_depth_spidepth"
DISPARITY_SCALE = 256.0
"""Cityscapes stores disparity d as round(256 d) + 1, and 0 where it is unknown (its README, "disparity")."""

SKY_ROWS = 0.6
"""Share of the image height that sky can reach down; longer unknown columns are the blind side."""


@dataclass(frozen=True)
class Camera:
    """Focal length in pixels and stereo baseline in metres."""

    focal: float
    baseline: float


def read_camera(path: Path) -> Camera:
    """Read a Cityscapes camera file.

    Raises:
        UserError: missing file, invalid JSON, missing or impossible values.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; unpack the camera package beside leftImg8bit")
    try:
        content = json.loads(path.read_text())
        camera = Camera(float(content["intrinsic"]["fx"]), float(content["extrinsic"]["baseline"]))
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: holds no intrinsic.fx and extrinsic.baseline; unpack it again") from None
    if not (camera.focal > 0 and camera.baseline > 0):
        raise UserError(f"{path}: focal length and baseline must be positive; unpack it again")
    return camera


def read_disparity(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a Cityscapes disparity map: (H, W) float32 pixels, and (H, W) bool where it is known.

    Raises:
        UserError: missing, truncated or 8-bit file, or no known pixel at all.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; unpack the disparity package beside leftImg8bit")
    stored = read_ids(path)
    if stored.dtype != np.uint16:
        raise UserError(f"{path}: disparity is stored in 16 bits, this file has 8; unpack it again")
    known = stored > 0
    if not known.any():
        raise UserError(f"{path}: no pixel has a disparity; unpack it again or leave the frame out")
    return (stored.astype(np.float32) - 1) / DISPARITY_SCALE, known


def fill_unknown(disparity: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown disparities: (H, W) float32, (H, W) bool -> (H, W) float32.

    What is unknown from the top of a column down to a known pixel above `SKY_ROWS` is sky: 0. Other holes
    take the farther of the two known neighbours in their row, because they are mostly background that the
    other camera cannot see; rows without any known pixel copy the nearest known row.
    """
    height, width = disparity.shape
    run = np.where(known.any(axis=0), known.argmax(axis=0), height)
    sky = np.arange(height)[:, None] < np.where(run < SKY_ROWS * height, run, 0)
    disparity, known = np.where(sky, 0, disparity), known | sky
    columns = np.arange(width)
    left = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, columns, width)[:, ::-1], axis=1)[:, ::-1]
    from_left = np.take_along_axis(disparity, np.clip(left, 0, None), axis=1)
    from_right = np.take_along_axis(disparity, np.clip(right, None, width - 1), axis=1)
    from_left = np.where(left < 0, np.inf, from_left)
    from_right = np.where(right == width, np.inf, from_right)
    filled = np.minimum(from_left, from_right)
    rows = np.flatnonzero(known.any(axis=1))
    nearest = rows[np.abs(np.arange(len(disparity))[:, None] - rows).argmin(axis=1)]
    return filled[nearest]


def depth_from_disparity(
    disparity: np.ndarray, known: np.ndarray, camera: Camera, min_depth: float, max_depth: float
) -> np.ndarray:
    """Return (H, W) float16 metres in [min_depth, max_depth]: depth = baseline * focal / disparity."""
    filled = fill_unknown(disparity, known)
    with np.errstate(divide="ignore"):
        depth = camera.baseline * camera.focal / filled
    return np.clip(depth, min_depth, max_depth).astype(np.float16)


@dataclass(frozen=True)
class DisparityToDepth:
    """Picklable `process` of the step: reads disparity and camera, writes depth."""

    root: Path
    output: Folder
    min_depth: float
    max_depth: float

    def __call__(self, frame: Frame) -> None:
        """Write the depth of one frame."""
        folder = frame.relative
        disparity, known = read_disparity(self.root / "disparity" / folder / f"{frame.stem}_disparity.png")
        camera = read_camera(self.root / "camera" / folder / f"{frame.stem}_camera.json")
        depth = depth_from_disparity(disparity, known, camera, self.min_depth, self.max_depth)
        write_npy(self.output.path(frame), depth)

    def show(self, frame: Frame) -> tuple[str, list[np.ndarray]]:
        """Return caption and pictures of one frame for the contact sheet."""
        from cups.visualization import depth_to_color
        from pseudo_labels.pictures import fit

        image = read_image(frame.image)
        depth = read_npy(self.output.path(frame), ndim=2).astype(np.float32)
        return frame.stem, [image, fit(depth_to_color(depth), image)]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = make_parser(__doc__ or "")
    parser.add_argument(
        "--source",
        choices=("spidepth", "disparity"),
        default="spidepth",
        help="network, or stereo disparity/",
    )
    parser.add_argument("--min_depth", type=float, default=0.5, help="metres; nearer is clipped")
    parser.add_argument("--max_depth", type=float, default=80.0, help="metres; farther (sky) is clipped")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    if args.source == "spidepth":
        raise UserError("--source spidepth: the network is not available yet; use --source disparity")
    if args.cityscapes_root is None:
        raise UserError("--source disparity: needs --cityscapes_root with disparity/ and camera/ inside")
    if not 0 < args.min_depth < args.max_depth <= np.finfo(np.float16).max:
        raise UserError(f"--max_depth {args.max_depth}: must lie above --min_depth {args.min_depth} > 0")
    frames = list_frames(args)
    output = Folder(output_root(args), DEPTH_FOLDER, ".npy")
    process = DisparityToDepth(args.cityscapes_root, output, args.min_depth, args.max_depth)
    inputs = (args.cityscapes_root / "disparity", args.cityscapes_root / "camera")
    run_stage(frames, process, [output], args, script=SCRIPT, inputs=inputs, show=process.show)
    return 0


if __name__ == "__main__":
    run_script(main)
