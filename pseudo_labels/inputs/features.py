"""Patch features of a frozen network on disk: writing them for all frames, reading them back."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cups.backbones import autocast, build_backbone, normalize
from cups.errors import UserError
from cups.io.files import read_npy, write_npy
from cups.io.png import read_image
from cups.io.provenance import known_weights
from cups.io.weights import weight_files
from cups.ops.resize import resize_image
from pseudo_labels.steps.arguments import (
    add_batch_argument,
    add_precision_argument,
    make_parser,
    output_root,
    pick_device,
    pick_precision,
)
from pseudo_labels.steps.pictures import fit
from pseudo_labels.steps.step import Folder, Frame, list_frames, run_stage
from pseudo_labels.steps.workers import Batched


def feature_folder(root: Path, backbone: str) -> Folder:
    """Return the folder that holds the features of a backbone, one (Hp, Wp, D) float16 array per frame."""
    return Folder(root, f"features_{backbone}", ".npy")


def read_features(folder: Folder, frame: Frame) -> np.ndarray:
    """Read the features of a frame: (Hp, Wp, D) float32.

    Raises:
        UserError: missing or unreadable file, or not a non-empty float array of three dimensions.
    """
    features = read_npy(folder.path(frame), ndim=3)
    if not features.size or not np.issubdtype(features.dtype, np.floating):
        raise UserError(
            f"{folder.path(frame)}: {features.dtype} array of shape {features.shape}, expected float "
            "(rows, columns, channels); extract the features again"
        )
    return features.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Extraction:
    """A network and how images are brought to it; its methods are the parts of a `Batched` step.

    Args:
        height: image height for the network (0: as it is); both sides are rounded to whole patches.
        precision: number format inside the network.
        flip: average with the mirrored image's features.
    """

    backbone: nn.Module
    output: Folder
    device: torch.device
    height: int = 0
    precision: torch.dtype = torch.float32
    flip: bool = False

    def load(self, frame: Frame) -> tuple[Tensor, None]:
        """Return the image, (H, W, 3) uint8."""
        return torch.from_numpy(read_image(frame.image)), None

    @torch.inference_mode()
    def compute(self, images: Tensor, _: Sequence[Any] = ()) -> list[np.ndarray]:
        """(B, H, W, 3) uint8 -> B arrays (H'/p, W'/p, D) float16 of the image at the network's size.

        Raises:
            UserError: values beyond float16.
        """
        pixels = self.resize(normalize(images.to(self.device, non_blocking=True)))
        with autocast(self.device, self.precision):
            features = self.backbone(pixels).float()
            if self.flip:
                features = (features + self.backbone(pixels.flip(3)).float().flip(3)) / 2
        features = features.permute(0, 2, 3, 1).half()
        if not torch.isfinite(features).all():
            raise UserError("--precision: features beyond the range of numbers; use --precision fp32 or bf16")
        return list(features.cpu().numpy())

    def resize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H', W') of `height` rows, both sides rounded to whole patches."""
        height, width = images.shape[-2:]
        patch = int(self.backbone.patch_size)  # type: ignore[arg-type]
        scale = (self.height or height) / height
        rows, columns = (max(1, round(side * scale / patch)) * patch for side in (height, width))
        return resize_image(images, (rows, columns), antialias=scale < 1)

    def save(self, frame: Frame, features: np.ndarray) -> None:
        """Write the features of one frame."""
        write_npy(self.output.path(frame), features)

    def show(self, frame: Frame) -> tuple[str, list[np.ndarray]]:
        """Return caption and pictures (image, first three principal components) of one frame."""
        image = read_image(frame.image)
        return frame.stem, [image, fit(principal_picture(read_features(self.output, frame)), image)]


def principal_picture(features: np.ndarray) -> np.ndarray:
    """Show the three strongest principal components as colours: (h, w, D) -> (h, w, 3) uint8."""
    flat = torch.from_numpy(features).flatten(0, 1).double()
    flat = flat - flat.mean(dim=0)
    _, vectors = torch.linalg.eigh(flat.T @ flat)
    scores = (flat @ vectors[:, -3:].flip(1)).numpy()
    low, high = np.percentile(scores, (1, 99), axis=0)
    colors = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1) * 255
    return colors.round().astype(np.uint8).reshape(*features.shape[:2], 3)


def parse_arguments(
    argv: Sequence[str] | None, description: str, backbones: Sequence[str], default: str
) -> argparse.Namespace:
    """Parse the command line of an extraction script."""
    parser = make_parser(description)
    add_batch_argument(parser, batch_size=8)
    model = parser.add_argument_group("model")
    model.add_argument("--backbone", choices=backbones, default=default, help="network")
    model.add_argument(
        "--backbone_checkpoint",
        type=Path,
        help="its weights (default: where download_checkpoints.sh puts it)",
    )
    model.add_argument(
        "--height", type=int, help="image height for the network, 0: native (default: 644, texton native)"
    )
    model.add_argument("--flip", action="store_true", help="average with the features of the mirrored image")
    add_precision_argument(model)
    args = parser.parse_args(argv)
    if args.height is not None and args.height < 0:
        raise UserError(f"--height {args.height}: must be at least 0")
    if args.height is None:
        args.height = 0 if args.backbone == "texton" else 644
    return args


def extract(args: argparse.Namespace, script: str) -> None:
    """Write the features of all frames."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    frames, device = list_frames(args), pick_device(args)
    backbone = build_backbone(args.backbone, args.backbone_checkpoint).to(device)
    extraction = Extraction(
        backbone,
        feature_folder(output_root(args), args.backbone),
        device,
        args.height,
        pick_precision(args, device),
        args.flip,
    )
    step = Batched(extraction.load, extraction.compute, extraction.save, args.batch_size)
    weights = []
    if args.backbone != "texton":
        file = args.backbone_checkpoint or weight_files(args.backbone)[0].path
        weights.append(known_weights(args.backbone, file))
    run_stage(frames, step, [extraction.output], args, script=script, weights=weights, show=extraction.show)
