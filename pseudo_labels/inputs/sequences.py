"""Frames with their neighbours in time and their camera, as training of depth from video needs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cups.errors import UserError
from cups.io.frame_numbers import places_in_clips
from cups.io.images import frame_stem, list_city_images
from cups.io.png import read_image
from cups.ops.motion import moved_edges
from cups.structures import Draw
from pseudo_labels.inputs.cameras import read_intrinsics
from pseudo_labels.steps.frames import Frame, FrameSource

SEQUENCE_FOLDER = "leftImg8bit_sequence"
CAMERA_SUFFIX = "_camera.json"
JITTER = 0.2
"""Largest relative change of brightness, contrast and saturation (Monodepth2)."""
LOOKED_AT = 50
"""Clips in which motion is looked for before a training."""
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Clip:
    """A frame, its neighbours (None where there is none; at least one is there) and its camera file."""

    image: Path
    sources: tuple[Path | None, ...]
    camera: Path | None


def seen_rows(rows: int, crop_bottom: float) -> int:
    """Return how many of the rows of an image a depth network is fed, from the top."""
    return round(rows * (1 - crop_bottom))


def feed_image(image: np.ndarray, size: tuple[int, int], crop_bottom: float) -> np.ndarray:
    """Return what a depth network sees: (H, W, 3) uint8 -> (*size, 3) uint8, Lanczos.

    crop_bottom: share of the rows cut off at the bottom first (0.25 on Cityscapes: the bonnet).
    """
    kept = Image.fromarray(image[: seen_rows(image.shape[0], crop_bottom)])
    return np.asarray(kept.resize(size[::-1], Image.Resampling.LANCZOS))


def feed_camera(
    camera: np.ndarray, raw: tuple[int, int], size: tuple[int, int], crop_bottom: float
) -> np.ndarray:
    """Return the (3, 3) camera matrix of `feed_image` from that of the image of `raw` size (H, W)."""
    scale = np.array([size[1] / raw[1], size[0] / seen_rows(raw[0], crop_bottom)])
    scaled = camera.copy()
    scaled[:2] *= scale[:, None]
    # Pixel centres are whole numbers, so the border of the image is at -0.5.
    scaled[:2, 2] += (scale - 1) / 2
    return scaled


def centred_camera(focal: float, size: tuple[int, int]) -> np.ndarray:
    """Return the (3, 3) matrix of a camera with square pixels and `focal` in image widths, centred."""
    height, width = size
    return np.array([[focal * width, 0, (width - 1) / 2], [0, focal * width, (height - 1) / 2], [0, 0, 1]])


Index = Mapping[tuple[Path, int], Path]
"""Image file by (folder and name of the sequence, place in it)."""


def find_clips(source: FrameSource, offsets: Sequence[int], focal: float | None = None) -> list[Clip]:
    """Return the frames that have a neighbour at one of `offsets`, in order.

    Cityscapes layout: neighbours by the numbers in `{city}_{seq}_{frame}`; where the split has a
    `leftImg8bit_sequence/`, all its frames. Plain folder, or video: see `places_in_clips`.

    Args:
        focal: focal length in image widths; None: camera files are needed.

    Raises:
        UserError: no frame with a neighbour, a sequence without camera, a plain folder without `focal`.
    """
    if source.image_dir is not None and focal is None:
        raise UserError("`focal`: missing; a plain folder has no camera files; give image widths")
    index = _plain_index(source.frames()) if source.image_dir else _cityscapes_index(source)
    cameras = {} if focal else _cameras(source)
    clips = []
    for (sequence, number), image in index.items():
        sources = tuple(index.get((sequence, number + offset)) for offset in offsets)
        if any(sources):
            camera = None if focal else _nearest(cameras, sequence, number)
            clips.append(Clip(image, sources, camera))
    if not clips:
        wanted = " ".join(f"{offset:+d}" for offset in offsets)
        fix = (
            "number the frames of a clip one by one"
            if source.image_dir
            else f"unpack {SEQUENCE_FOLDER} beside leftImg8bit"
        )
        raise UserError(
            f"{source.image_folder}: no frame has a neighbour ({wanted}), and depth is learned from video; "
            f"{fix}, or change `offsets`"
        )
    return clips


def share_that_moves(clips: Sequence[Clip], size: tuple[int, int], crop_bottom: float) -> float:
    """Return the mean share of edges that move between neighbours, 0-1, over some evenly chosen clips.

    size, crop_bottom: see `feed_image`.
    """
    shares = []
    for clip in clips[:: -(-len(clips) // LOOKED_AT)]:
        other = next(path for path in clip.sources if path is not None)
        feeds = (feed_image(read_image(path), size, crop_bottom) for path in (clip.image, other))
        shares.append(moved_edges(*feeds))
    known = [share for share in shares if not np.isnan(share)]
    return float(np.mean(known)) if known else 0.0


def sequence_folder(source: FrameSource) -> Path | None:
    """Return the folder of whole sequences, if the data set has it."""
    folder = None if source.cityscapes_root is None else source.cityscapes_root / SEQUENCE_FOLDER
    return folder if folder is not None and folder.is_dir() else None


def _plain_index(frames: Sequence[Frame]) -> Index:
    places = places_in_clips([(frame.relative, frame.image) for frame in frames])
    return {place: frame.image for place, frame in zip(places, frames, strict=True)}


def _cityscapes_index(source: FrameSource) -> Index:
    folder, frames = sequence_folder(source), source.frames()
    images = [frame.image for frame in frames]
    if folder is not None:
        splits = sorted({frame.relative.parts[0] for frame in frames})
        found = [path for split in splits for path in list_city_images(folder / split)]
        images = found[: source.max_images] or images
    return {_place(path, path.name.removeprefix(frame_stem(path))): path for path in images}


def _place(path: Path, suffix: str) -> tuple[Path, int]:
    """`.../train/aachen/aachen_000000_000019{suffix}` -> (`train/aachen/aachen_000000`, 19).

    Raises:
        UserError: a name of another form.
    """
    sequence, _, number = path.name.removesuffix(suffix).rpartition("_")
    if not sequence or not number.isdecimal():
        raise UserError(
            f"{path}: not named {{city}}_{{seq}}_{{frame}}{suffix}; rename it, or use `image_dir`"
        )
    return Path(*path.parent.parts[-2:], sequence), int(number)


def _cameras(source: FrameSource) -> dict[Path, list[tuple[int, Path]]]:
    """Return the camera files of each sequence with their frame numbers."""
    assert source.cityscapes_root is not None
    cameras: dict[Path, list[tuple[int, Path]]] = defaultdict(list)
    for path in sorted((source.cityscapes_root / "camera").glob(f"*/*/*{CAMERA_SUFFIX}")):
        sequence, number = _place(path, CAMERA_SUFFIX)
        cameras[sequence].append((number, path))
    return cameras


def _nearest(cameras: Mapping[Path, list[tuple[int, Path]]], sequence: Path, number: int) -> Path:
    """Return the camera file of the nearest frame; Cityscapes has one for each 30 frames.

    Raises:
        UserError: the sequence has none.
    """
    if not cameras.get(sequence):
        raise UserError(
            f"camera/{sequence}_*{CAMERA_SUFFIX}: no such file; unpack the cameras beside leftImg8bit, "
            "or give `focal`"
        )
    return min(cameras[sequence], key=lambda entry: abs(entry[0] - number))[1]


class ClipDataset(Dataset[dict[str, Tensor]]):
    """Clips as the training takes them, mirrored half of the time.

    Items: `target` (3, h, w) and `sources` (S, 3, h, w) float32 in 0-1, `present` (S,) bool (an absent source
    repeats the target), `intrinsics` (3, 3), `jitter` (3,) factors for `change_colors`.

    Args:
        size, crop_bottom: see `feed_image`.
        focal: in image widths, for clips without camera file.
        cache_bytes: memory for resized images.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        size: tuple[int, int],
        crop_bottom: float = 0.0,
        focal: float | None = None,
        seed: int = 0,
        cache_bytes: int = 0,
    ) -> None:
        self.clips, self.size, self.crop_bottom = clips, size, crop_bottom
        self.focal, self.seed = focal, seed
        self._room = cache_bytes // (3 * size[0] * size[1])
        self._cache: dict[Path, tuple[np.ndarray, tuple[int, int]]] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        clip, rng = self.clips[draw.frame], np.random.default_rng((self.seed, draw.number))
        target, raw = self._image(clip.image)
        images = [target, *(target if path is None else self._image(path)[0] for path in clip.sources)]
        camera = read_intrinsics(clip.camera) if clip.camera else centred_camera(self.focal or 1.0, raw)
        camera = feed_camera(camera, raw, self.size, self.crop_bottom)
        stack = np.stack(images)
        if rng.random() < 0.5:
            stack = stack[:, :, ::-1]
            camera[0, 2] = self.size[1] - 1 - camera[0, 2]
        pixels = torch.from_numpy(stack.copy()).permute(0, 3, 1, 2).float() / 255
        jitter = rng.uniform(1 - JITTER, 1 + JITTER, 3) if rng.random() < 0.5 else np.ones(3)
        return {
            "target": pixels[0],
            "sources": pixels[1:],
            "present": torch.tensor([path is not None for path in clip.sources]),
            "intrinsics": torch.from_numpy(camera).float(),
            "jitter": torch.from_numpy(jitter).float(),
        }

    def _image(self, path: Path) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the (h, w, 3) uint8 feed of a file, and the (H, W) of the file."""
        if path in self._cache:
            return self._cache[path]
        image = read_image(path)
        entry = feed_image(image, self.size, self.crop_bottom), (image.shape[0], image.shape[1])
        if len(self._cache) < self._room:
            self._cache[path] = entry
        return entry


def change_colors(images: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, contrast, saturation: (N, 3, H, W) in 0-1, factors (N, 3) -> the same range."""
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(dim=1)
    luma = images.new_tensor(LUMA)[:, None, None]
    images = (images * brightness).clamp(0, 1)
    mean = (images * luma).sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    images = (mean + contrast * (images - mean)).clamp(0, 1)
    gray = (images * luma).sum(dim=1, keepdim=True)
    return (gray + saturation * (images - gray)).clamp(0, 1)
