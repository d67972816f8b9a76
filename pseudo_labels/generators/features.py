"""Patch features of every image by a frozen network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cups.backbones import build_backbone
from cups.io.files import write_npy
from cups.io.png import read_image
from pseudo_labels.inputs.features import feature_folder, read_features
from pseudo_labels.networks.devices import images_at_once, pick_device, pick_precision
from pseudo_labels.networks.frozen_features import FrozenBackbone, backbone_weights
from pseudo_labels.settings.features import FeatureSettings
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import fit
from pseudo_labels.steps.step import Step, Summary, run_step
from pseudo_labels.steps.workers import Batched


@dataclass(frozen=True, eq=False)
class Extraction:
    """The parts of a `Batched` step: image -> features of a frozen backbone."""

    backbone: FrozenBackbone
    output: Folder
    device: torch.device

    def load(self, frame: Frame) -> tuple[Tensor, None]:
        """Return the image, (H, W, 3) uint8."""
        return torch.from_numpy(read_image(frame.image)), None

    def compute(self, images: Tensor, _: Sequence[Any] = ()) -> list[np.ndarray]:
        """(B, H, W, 3) uint8 -> B arrays (H'/p, W'/p, D) float16 of the image at the network's size."""
        return list(self.backbone.maps(images.to(self.device, non_blocking=True)).cpu().numpy())

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
    backbone = FrozenBackbone(
        build_backbone(settings.backbone, settings.backbone_checkpoint),
        settings.rows,
        pick_precision(settings.precision, device),
        settings.flip,
    )
    extraction = Extraction(backbone, feature_folder(run.root(source), settings.backbone), device)
    step = Step(
        script,
        replace(settings, height=settings.rows),
        Batched(
            extraction.load, extraction.compute, extraction.save, images_at_once(settings.batch_size, device)
        ),
        [extraction.output],
        extraction.show,
        weights=backbone_weights(settings.backbone, settings.backbone_checkpoint),
    )
    return run_step(source, step, run)
