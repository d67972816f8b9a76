"""Stage 1: one depth map per image, from the SPIdepth network or from stereo disparity."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
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
from cups.io.weights import weight_files
from pseudo_labels.inputs.cameras import read_camera
from pseudo_labels.inputs.disparity import depth_from_disparity, read_disparity
from pseudo_labels.inputs.labels import DEPTH_FOLDER
from pseudo_labels.inputs.sequences import feed_image
from pseudo_labels.networks.depth_network import (
    DEPTH,
    ENCODER,
    SETTINGS,
    DepthSettings,
    load_depth_network,
    published_name,
)
from pseudo_labels.steps.arguments import add_precision_argument, pick_precision
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.step import (
    Folder,
    Frame,
    add_batch_argument,
    list_frames,
    make_parser,
    output_root,
    pick_device,
    run_stage,
)
from pseudo_labels.steps.workers import Batched

SCRIPT = "generate_depth_spidepth"
CHECKPOINT_DIR = weight_files("spidepth_cityscapes")[0].path.parent
OVERRIDES = ("height", "width", "crop_bottom", "min_depth", "max_depth")
"""Settings of the checkpoint that flags replace."""
STEREO_RANGE = (0.5, 80.0)
"""Default nearest and farthest metres of depth from disparity."""


def show_depth(frame: Frame, output: Folder) -> tuple[str, list[np.ndarray]]:
    """Return caption and pictures (image, depth) of one frame for the contact sheet."""
    from cups.visualization import depth_to_color
    from pseudo_labels.steps.pictures import fit

    image = read_image(frame.image)
    depth = read_npy(output.path(frame), ndim=2).astype(np.float32)
    return frame.stem, [image, fit(depth_to_color(depth), image)]


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
        """(B, 3, h, w) -> B depth maps (H, W) float16.

        Raises:
            UserError: depth that is not finite.
        """
        images = images.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            depth = self.network(images).float()
            if self.flip:
                depth = (depth + self.network(images.flip(3)).float().flip(3)) / 2
        if not torch.isfinite(depth).all():
            raise UserError("--precision: depth beyond the range of numbers; use --precision fp32")
        return [self.to_image(one[None], size) for one, size in zip(depth, sizes, strict=True)]

    def to_image(self, depth: Tensor, size: tuple[int, int]) -> np.ndarray:
        """(1, 1, h, w) -> (H, W) float16; rows that were cut off repeat the last one that was seen."""
        kept = (round(size[0] * (1 - self.settings.crop_bottom)), size[1])
        full = F.interpolate(depth, size=kept, mode="bilinear", align_corners=False)
        full = F.pad(full, (0, 0, 0, size[0] - kept[0]), mode="replicate")
        return full[0, 0].half().cpu().numpy()

    def save(self, frame: Frame, depth: np.ndarray) -> None:
        """Write the depth of one frame."""
        write_npy(self.output.path(frame), depth)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = make_parser(__doc__ or "")
    add_batch_argument(parser, batch_size=4)
    parser.add_argument(
        "--source", choices=("spidepth", "disparity"), default="spidepth", help="network, or disparity/"
    )
    network = parser.add_argument_group("network (--source spidepth)")
    network.add_argument(
        "--checkpoint_dir",
        type=Path,
        help="folder with encoder.pth and depth.pth (default: refs/spidepth/checkpoints/cityscapes)",
    )
    network.add_argument("--post_process", action="store_true", help="average with the mirrored image")
    network.add_argument("--height", type=int, help="rows fed to the network (default: as trained)")
    network.add_argument("--width", type=int, help="columns fed to the network (default: as trained)")
    network.add_argument(
        "--crop_bottom",
        type=float,
        help="share of the rows cut off at the bottom and refilled (default: as trained; 0.25 on Cityscapes)",
    )
    add_precision_argument(network)
    for name, side, value in zip(("min", "max"), ("nearest", "farthest"), STEREO_RANGE, strict=True):
        parser.add_argument(
            f"--{name}_depth",
            type=float,
            help=f"{side} depth (default: as the network was trained; disparity is clipped at {value} m)",
        )
    return parser


def run_disparity(args: argparse.Namespace, output: Folder) -> None:
    """Write the depth of all frames from `disparity/` and `camera/`.

    Raises:
        UserError: no Cityscapes root, an impossible range.
    """
    if args.cityscapes_root is None:
        raise UserError("--source disparity: needs --cityscapes_root with disparity/ and camera/ inside")
    for name, value in zip(("min_depth", "max_depth"), STEREO_RANGE, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    if not 0 < args.min_depth < args.max_depth <= np.finfo(np.float16).max:
        raise UserError(f"--max_depth {args.max_depth}: must lie above --min_depth {args.min_depth} > 0")
    process = DisparityToDepth(args.cityscapes_root, output, args.min_depth, args.max_depth)
    inputs = (args.cityscapes_root / "disparity", args.cityscapes_root / "camera")
    run_stage(
        list_frames(args), process, [output], args, script=SCRIPT, inputs=inputs,
        show=lambda frame: show_depth(frame, output),
    )  # fmt: skip


def run_network(args: argparse.Namespace, output: Folder) -> None:
    """Write the depth of all frames with the network of `--checkpoint_dir`.

    Raises:
        UserError: missing or foreign weights, impossible sizes.
    """
    frames, device = list_frames(args), pick_device(args)
    folder = args.checkpoint_dir or CHECKPOINT_DIR
    network, settings = load_depth_network(folder, **{name: getattr(args, name) for name in OVERRIDES})
    inference = DepthInference(
        network.to(device), settings, output, device, pick_precision(args, device), args.post_process
    )
    step = Batched(inference.load, inference.compute, inference.save, args.batch_size)
    run_stage(
        frames, step, [output], args, script=SCRIPT, weights=network_weights(folder),
        show=lambda frame: show_depth(frame, output),
    )  # fmt: skip


def network_weights(folder: Path) -> list[dict[str, Any]]:
    """Return the provenance entry of the network in `folder`: published, trained here, or unknown."""
    published = published_name(folder)
    files = [folder / name for name in (ENCODER, DEPTH, SETTINGS)]
    if published is not None and read_provenance(folder) is None:
        return [known_weights(published, *files)]
    return [trained_weights(folder, *files)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    output = Folder(output_root(args), DEPTH_FOLDER, ".npy")
    (run_network if args.source == "spidepth" else run_disparity)(args, output)
    return 0


if __name__ == "__main__":
    run_script(main)
