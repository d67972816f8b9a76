"""Patch features of every image by a frozen network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cups.backbones import autocast, backbone_weights, build_backbone, normalize
from cups.backbones.names import TEXTON
from cups.errors import UserError
from cups.io.files import write_npy
from cups.io.png import read_image
from cups.io.provenance import known_weights
from cups.ops.resize import resize_image
from pseudo_labels.inputs.features import feature_folder, read_features
from pseudo_labels.networks.devices import pick_device, pick_precision
from pseudo_labels.settings.features import FeatureSettings
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import fit
from pseudo_labels.steps.step import Step, Summary, run_step
from pseudo_labels.steps.workers import Batched


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
            raise UserError("`precision`: features beyond the range of numbers; use fp32 or bf16")
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

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, first three principal components) of one frame."""
        image = read_image(frame.image)
        return [image, fit(principal_picture(read_features(self.output, frame)), image)]


def principal_picture(features: np.ndarray) -> np.ndarray:
    """Show the three strongest principal components as colours: (h, w, D) -> (h, w, 3) uint8."""
    flat = torch.from_numpy(features).flatten(0, 1).double()
    flat = flat - flat.mean(dim=0)
    _, vectors = torch.linalg.eigh(flat.T @ flat)
    scores = (flat @ vectors[:, -3:].flip(1)).numpy()
    low, high = np.percentile(scores, (1, 99), axis=0)
    colors = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1) * 255
    return colors.round().astype(np.uint8).reshape(*features.shape[:2], 3)


def make_features(source: FrameSource, settings: FeatureSettings, run: FrameRun, script: str) -> Summary:
    """Write the features of all frames: (Hp, Wp, D) float16 each, into `features_{backbone}`.

    script: its name in `provenance.json`; several scripts write features.

    Raises:
        UserError: missing weights, or a folder with files of another run.
    """
    device = pick_device(settings.device)
    backbone = build_backbone(settings.backbone, settings.backbone_checkpoint).to(device)
    extraction = Extraction(
        backbone,
        feature_folder(run.root(source), settings.backbone),
        device,
        settings.rows,
        pick_precision(settings.precision, device),
        settings.flip,
    )
    weights = []
    if settings.backbone != TEXTON:
        file = backbone_weights(settings.backbone, settings.backbone_checkpoint)
        weights.append(known_weights(settings.backbone, file))
    step = Step(
        script,
        replace(settings, height=settings.rows),
        Batched(extraction.load, extraction.compute, extraction.save, settings.batch_size),
        [extraction.output],
        extraction.show,
        weights=weights,
    )
    return run_step(source, step, run)
