"""One depth map per image, from the SPIdepth network or from stereo disparity.

Disparity gives depth at its own size, a network at the size that it computes: readers resize.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cups.backbones import autocast
from cups.errors import UserError
from cups.io.files import read_npy, write_npy
from cups.io.png import read_image
from cups.io.provenance import known_weights, read_provenance, trained_weights
from cups.io.weights import stored_at, weight_files
from cups.visualization import depth_to_color
from pseudo_labels.inputs.cameras import read_camera
from pseudo_labels.inputs.disparity import depth_from_disparity, read_disparity
from pseudo_labels.inputs.sequences import feed_image, seen_rows
from pseudo_labels.networks.depth_network import (
    DEPTH,
    ENCODER,
    SETTINGS,
    load_depth_network,
    published_name,
)
from pseudo_labels.networks.devices import images_at_once, pick_device, pick_precision
from pseudo_labels.settings.depth import FARTHEST, STEREO_RANGE, DepthMapSettings, DepthSettings
from pseudo_labels.settings.outlines import NETWORK, STEREO
from pseudo_labels.steps.folders import DEPTH_FOLDER
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import fit
from pseudo_labels.steps.step import Step, Summary, run_step
from pseudo_labels.steps.workers import Batched

SCRIPT = "generate_depth_spidepth"
OVERRIDES = ("height", "width", "crop_bottom", "min_depth", "max_depth")
"""Settings of the checkpoint that those of the step replace."""


@dataclass(frozen=True)
class ShowDepth:
    """Pictures of the step."""

    output: Folder

    def __call__(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, depth) of one frame for the contact sheet."""
        image = read_image(frame.image)
        depth = read_npy(self.output.path(frame), ndim=2).astype(np.float32)
        return [image, fit(depth_to_color(depth), image)]


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


@dataclass(frozen=True, eq=False)
class DepthInference:
    """The parts of a `Batched` step: image -> depth -> file.

    Args:
        settings: how images are cropped and resized for the network.
        flip: average with the depth of the mirrored image.
    """

    network: nn.Module
    settings: DepthSettings
    output: Folder
    device: torch.device
    precision: torch.dtype = torch.float32
    flip: bool = False

    def load(self, frame: Frame) -> tuple[Tensor, tuple[int, int]]:
        """Return the image as the network takes it, (3, h, w) in 0-1, and the size (H, W) of the file."""
        image = read_image(frame.image)
        size = (self.settings.height, self.settings.width)
        fed = torch.from_numpy(feed_image(image, size, self.settings.crop_bottom).copy())
        fed = fed.permute(2, 0, 1).float() / 255
        return fed, (image.shape[0], image.shape[1])

    @torch.inference_mode()
    def compute(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """(B, 3, h, w) -> B depth maps (H, W) float16 of the shape of the images, see `map_size`.

        Raises:
            UserError: depth that is not finite.
        """
        images = images.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            depth = self.network(images).float()
            if self.flip:
                depth = (depth + self.network(images.flip(3)).float().flip(3)) / 2
        if not torch.isfinite(depth).all():
            raise UserError("`precision`: depth beyond the range of numbers; use fp32")
        return [self.to_map(one[None], size) for one, size in zip(depth, sizes, strict=True)]

    def to_map(self, depth: Tensor, size: tuple[int, int]) -> np.ndarray:
        """(1, 1, h, w) -> depth of the whole image, float16; rows that were cut off repeat the last one seen.

        size: (H, W) of the image.
        """
        seen = seen_rows(size[0], self.settings.crop_bottom)
        rows, columns = map_size((depth.shape[2], depth.shape[3]), size, seen)
        # Centres of the map's pixels in what the network saw, whose borders lie at -1 and 1.
        down = (torch.arange(rows, device=depth.device) + 0.5) * (2 * size[0] / (rows * seen)) - 1
        right = (torch.arange(columns, device=depth.device) + 0.5) * (2 / columns) - 1
        grid = torch.stack(torch.meshgrid(right, down, indexing="xy"), dim=-1)[None]
        whole = F.grid_sample(depth, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return whole[0, 0].half().cpu().numpy()

    def save(self, frame: Frame, depth: np.ndarray) -> None:
        """Write the depth of one frame."""
        write_npy(self.output.path(frame), depth)


def map_size(computed: tuple[int, int], image: tuple[int, int], seen: int) -> tuple[int, int]:
    """Return (H, W) of the depth map that is stored.

    The smallest of the image's shape that holds every row and column that the network computes, and no larger
    than the image: more pixels would hold no more depth.

    Args:
        computed: (h, w) of the network's output.
        image: (H, W).
        seen: rows of the image that the output covers.
    """
    scale = min(1.0, max(computed[0] / seen, computed[1] / image[1]))
    return max(1, round(image[0] * scale)), max(1, round(image[1] * scale))


def make_depth(source: FrameSource, settings: DepthMapSettings, run: FrameRun) -> Summary:
    """Write the depth of all frames.

    Raises:
        UserError: missing inputs, weights that do not fit, or a folder with files of another run.
    """
    output = Folder(run.root(source), DEPTH_FOLDER, ".npy")
    if settings.source == "disparity":
        return run_step(source, disparity_step(source, settings, output), run)
    source.frames()  # an empty split is named before gigabytes of weights are read
    return run_step(source, network_step(settings, output), run)


def disparity_step(source: FrameSource, settings: DepthMapSettings, output: Folder) -> Step:
    """Return the step that makes depth of `disparity/` and `camera/`.

    Raises:
        UserError: no Cityscapes root, an impossible range.
    """
    root = source.cityscapes_root
    if root is None:
        raise UserError("`source` disparity: needs `cityscapes_root` with disparity/ and camera/ inside")
    least = STEREO_RANGE[0] if settings.min_depth is None else settings.min_depth
    most = STEREO_RANGE[1] if settings.max_depth is None else settings.max_depth
    if not 0 < least < most <= FARTHEST:
        raise UserError(f"`max_depth` {most}: must lie above `min_depth` {least} > 0")
    process = DisparityToDepth(root, output, least, most)
    decided = replace(settings, min_depth=least, max_depth=most)
    inputs = (root / "disparity", root / "camera")
    return Step(SCRIPT, decided, process, [output], ShowDepth(output), inputs=inputs, depth=STEREO)


def network_step(settings: DepthMapSettings, output: Folder) -> Step:
    """Return the step that makes depth by the network of `checkpoint_dir`.

    Raises:
        UserError: missing or foreign weights, impossible sizes.
    """
    device = pick_device(settings.device)
    folder = settings.checkpoint_dir or weight_files("spidepth_cityscapes")[0].path.parent
    network, shape = load_depth_network(folder, **{name: getattr(settings, name) for name in OVERRIDES})
    precision = pick_precision(settings.precision, device)
    inference = DepthInference(network.to(device), shape, output, device, precision, settings.post_process)
    process = Batched(
        inference.load, inference.compute, inference.save, images_at_once(settings.batch_size, device)
    )
    weights = network_weights(folder)
    return Step(SCRIPT, settings, process, [output], ShowDepth(output), weights=weights, depth=NETWORK)


def network_weights(folder: Path) -> list[dict[str, Any]]:
    """Return the provenance entry of the network in `folder`: published, trained here, or unknown."""
    published = published_name(folder)
    files = [stored_at(folder / name) for name in (ENCODER, DEPTH, SETTINGS)]
    if published is not None and read_provenance(folder) is None:
        return [known_weights(published, *files)]
    return [trained_weights(folder, *files)]
