"""Train the depth network on monocular sequences by view synthesis, without labels and without stereo."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from cups.backbones import load_tensors
from cups.errors import UserError, run_main
from cups.ops.png import atomic_write
from pseudo_labels.depth_network import CHECKPOINT_DIR, SETTINGS, DepthSettings, build_depth_network
from pseudo_labels.sequences import Triplets, find_moments
from pseudo_labels.stage import list_frames, make_parser
from pseudo_labels.training import Fit, add_training_arguments, train
from pseudo_labels.view_synthesis import smoothness_loss, synthesis_loss, warp
from refs.spidepth import SQLDepth
from refs.spidepth.layers import transformation
from refs.spidepth.networks import PoseNet

log = logging.getLogger(__name__)
SCRIPT = "train_spidepth"
DROP_AT = 0.75
"""Share of the steps after which the learning rate falls to a tenth (Monodepth2: 15 of 20 epochs)."""


class DepthFit(Fit):
    """Depth and pose network, trained to rebuild each frame from its neighbours."""

    def __init__(self, args: argparse.Namespace, depth: SQLDepth, pose: PoseNet) -> None:
        super().__init__(args)
        self.depth, self.pose = depth, pose

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the synthesis and smoothness losses of a batch of `Triplets`."""
        target, *sources = batch["frames"].unbind(1)
        view, *views = batch["inputs"].unbind(1)
        depth = self.depth(view)
        depth = F.interpolate(depth, size=target.shape[-2:], mode="bilinear", align_corners=False)
        # Geometry needs single precision: a bf16 coordinate is off by pixels.
        with torch.autocast(target.device.type, enabled=False):
            depth = depth.float()
            inverse = (1 / depth).mean(dim=(1, 2, 3))
            warped = [
                warp(source, depth, self.motion(view, other, inverse, backwards), batch["intrinsics"])
                for source, other, backwards in zip(sources, views, (True, False), strict=True)
            ]
            return {
                "synthesis": synthesis_loss(target, sources, warped, batch["available"]),
                "smoothness": self.args.smoothness * smoothness_loss(depth, target),
            }

    def motion(self, target: Tensor, source: Tensor, inverse_depth: Tensor, backwards: bool) -> Tensor:
        """Return (B, 4, 4) from the target camera to the source camera.

        The network always sees the earlier frame first. Translation is measured in mean depths, so that depth
        cannot shrink to nothing while the motion follows (Wang et al., CVPR 2018).
        """
        pair = (source, target) if backwards else (target, source)
        with torch.autocast(target.device.type, enabled=False):
            turn, shift = self.pose(torch.cat(pair, dim=1))
        shift = shift / inverse_depth[:, None]
        return transformation(turn, shift, invert=backwards)

    def learning_rate_factor(self, step: int) -> float:
        """Return 1, and 0.1 for the last quarter."""
        return 1.0 if step < DROP_AT * self.args.steps else 0.1
