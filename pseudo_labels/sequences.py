"""Frames with their neighbours in time, and the camera that took them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cups.errors import UserError
from cups.layout import IMAGE_SUFFIX
from cups.ops.png import read_image
from cups.sampling import Draw
from pseudo_labels.stage import Frame

STEPS = (-1, 1)
"""The neighbours of a frame that explain it."""
_NUMBER = re.compile(r"\d+(?=\D*$)")
CONTRAST, HUE_DEGREES = 0.2, 18


@dataclass(frozen=True)
class Moment:
    """A frame, its neighbours (None where the sequence ends) and its camera file (None without one)."""

    frame: Frame
    neighbours: tuple[Path | None, ...]
    camera: Path | None


def find_moments(frames: Sequence[Frame], args: argparse.Namespace) -> list[Moment]:
    """Return the frames that have a neighbour.

    A neighbour carries the next or previous number in its name. It is looked for beside the image and, for
    Cityscapes, in `leftImg8bit_sequence/`.

    Raises:
        UserError: no frame has a neighbour.
    """
    moments = []
    for frame in frames:
        neighbours = tuple(_neighbour(frame, step, args.cityscapes_root) for step in STEPS)
        if any(neighbours):
            moments.append(Moment(frame, neighbours, _camera(frame, args)))
    if not moments:
        raise UserError(
            f"{frames[0].image.parent}: no frame has a neighbour in time (one number up or down in its name); "
            "unpack leftImg8bit_sequence, or give --image_dir with the frames of a video"
        )
    return moments


def _neighbour(frame: Frame, step: int, root: Path | None) -> Path | None:
    match = _NUMBER.search(frame.stem)
    if match is None:
        return None
    number = int(match.group()) + step
    if number < 0:
        return None
    stem = f"{frame.stem[: match.start()]}{number:0{len(match.group())}}{frame.stem[match.end() :]}"
    name = frame.image.name.replace(frame.stem, stem, 1)
    places = [frame.image.with_name(name)]
    if root is not None:
        places.append(root / "leftImg8bit_sequence" / frame.relative / f"{stem}{IMAGE_SUFFIX}")
    return next((place for place in places if place.is_file()), None)


def _camera(frame: Frame, args: argparse.Namespace) -> Path | None:
    if args.focal is not None or args.cityscapes_root is None:
        return None
    path = args.cityscapes_root / "camera" / frame.relative / f"{frame.stem}_camera.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; unpack the camera package, or give --focal")
    return path


def read_intrinsics(path: Path | None, focal: float | None, size: tuple[int, int]) -> np.ndarray:
    """Return (3, 3) intrinsics in pixels of the raw image of `size` (H, W).

    Without a camera file the principal point is the centre and `focal` a share of the width.

    Raises:
        UserError: a camera file without fx, fy, u0 and v0.
    """
    height, width = size
    if path is None:
        assert focal is not None
        fx = fy = focal * width
        u0, v0 = (width - 1) / 2, (height - 1) / 2
    else:
        try:
            camera = json.loads(path.read_text())["intrinsic"]
            fx, fy, u0, v0 = (float(camera[key]) for key in ("fx", "fy", "u0", "v0"))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            raise UserError(f"{path}: holds no intrinsic fx, fy, u0, v0; unpack it again") from None
    return np.array([[fx, 0, u0], [0, fy, v0], [0, 0, 1]])


def scale_intrinsics(intrinsics: np.ndarray, scale_x: float, scale_y: float) -> np.ndarray:
    """Return intrinsics (3, 3) of the resized image; pixel centres have integer coordinates."""
    moved = intrinsics.copy()
    moved[0], moved[1] = intrinsics[0] * scale_x, intrinsics[1] * scale_y
    moved[0, 2] += (scale_x - 1) / 2
    moved[1, 2] += (scale_y - 1) / 2
    return moved


def feed_image(image: np.ndarray, size: tuple[int, int], crop_bottom: float) -> np.ndarray:
    """Cut off the lowest `crop_bottom` (0-1) of (H, W, 3) uint8 and resize to `size` (height, width)."""
    kept = image[: round(image.shape[0] * (1 - crop_bottom))]
    return cv2.resize(kept, size[::-1], interpolation=cv2.INTER_AREA)


class Triplets(Dataset[dict[str, Tensor]]):
    """Target frames with their neighbours, for view synthesis.

    `dataset[Draw]` gives `frames` (3, 3, H, W) float32 in 0-1 (target, then `STEPS`; a missing neighbour
    repeats the target), `inputs` the same with colours changed alike for the networks, `available` (2,) bool
    and `intrinsics` (3, 3). Left and right are exchanged in every second draw.
    """

    def __init__(
        self,
        moments: Sequence[Moment],
        size: tuple[int, int],
        crop_bottom: float = 0.0,
        focal: float | None = None,
        seed: int = 0,
    ) -> None:
        self.moments = moments
        self.size, self.crop_bottom, self.focal, self.seed = size, crop_bottom, focal, seed

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        moment = self.moments[draw.frame]
        rng = np.random.default_rng((self.seed, draw.number))
        image = read_image(moment.frame.image)
        raw = (round(image.shape[0] * (1 - self.crop_bottom)), image.shape[1])
        intrinsics = scale_intrinsics(
            read_intrinsics(moment.camera, self.focal, image.shape[:2]),
            self.size[1] / raw[1],
            self.size[0] / raw[0],
        )
        images = [image, *(image if path is None else read_image(path) for path in moment.neighbours)]
        frames = np.stack([feed_image(picture, self.size, self.crop_bottom) for picture in images])
        if rng.random() < 0.5:
            frames = frames[:, :, ::-1]
            intrinsics[0, 2] = self.size[1] - 1 - intrinsics[0, 2]
        inputs = _recolour(frames, rng) if rng.random() < 0.5 else frames
        return {
            "frames": _tensor(frames),
            "inputs": _tensor(inputs),
            "available": torch.tensor([path is not None for path in moment.neighbours]),
            "intrinsics": torch.from_numpy(intrinsics).float(),
        }


def _recolour(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue of (N, H, W, 3) uint8 alike in all frames."""
    flat = frames.reshape(-1, *frames.shape[2:])
    gain, contrast, saturation = rng.uniform(1 - CONTRAST, 1 + CONTRAST, 3)
    hsv = cv2.cvtColor(np.ascontiguousarray(flat), cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-HUE_DEGREES, HUE_DEGREES) / 2) % 180
    hsv[..., 1] *= saturation
    rgb = cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    mean = rgb.mean()
    return ((rgb - mean) * contrast + mean * gain).clip(0, 255).astype(np.uint8).reshape(frames.shape)


def _tensor(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
