"""Training of the refinement networks on their own input, without labels."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pseudo_labels.inputs.labels import count_classes
from pseudo_labels.inputs.refine_inputs import INPUTS, RefineFolders, RefinementFrames, feature_statistics
from pseudo_labels.joint_refine_net import JointRefineNet
from pseudo_labels.losses.pairwise_smoothness import (
    DILATIONS,
    local_agreement,
    pairwise_guide,
    pairwise_smoothness,
)
from pseudo_labels.networks.training import Fit, rebuild_network, save_weights, train
from pseudo_labels.refine_net import CSCMRefineNet
from pseudo_labels.settings.refinement import TrainRefineSettings
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import number_of_classes
from pseudo_labels.steps.options import RunOptions

log = logging.getLogger(__name__)

RefineNetwork = CSCMRefineNet | JointRefineNet
NETWORKS: Mapping[str, type[RefineNetwork]] = {
    "CSCMRefineNet": CSCMRefineNet,
    "JointRefineNet": JointRefineNet,
}
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""
MASKED, SWAPPED = 0.3, 0.1
"""Shares of the labels that training hides, or replaces by labels of another place."""
CELLS = (2, 4, 8, 16, 32)
"""Sides in pixels of what is hidden or replaced."""


def corrupt(labels: Tensor) -> Tensor:
    """Hide part of the labels (-1) and replace part by another place's: (B, H, W) -> (B, H, W) int64.

    What a label map shows at a place can then be told from the surroundings and the other inputs only, so the
    network learns to say it from them. Squares of several sides, chosen by torch's global generator.
    """
    height, width = labels.shape[1:]
    cell = CELLS[int(torch.randint(len(CELLS), ()))]
    chance = torch.rand(len(labels), -(-height // cell), -(-width // cell)).to(labels.device)
    chance = chance.repeat_interleave(cell, dim=1).repeat_interleave(cell, dim=2)[:, :height, :width]
    shift = (int(torch.randint(height, ())), int(torch.randint(width, ())))
    swapped = torch.where(chance < MASKED + SWAPPED, labels.roll(shift, dims=(1, 2)), labels)
    return torch.where(chance < MASKED, -1, swapped)


class RefineFit(Fit):
    """Training of a refinement network on its own input, without labels.

    Two parts: the network restores corrupted labels (masked label modelling), each pixel weighted by how
    far its look-alike neighbours carry its label; and neighbours that look alike shall agree. With a share c
    of them carrying a pixel's label, -c log(q) + 2 w (c (1 - q) + (1 - c) q) is least at a chance q of that
    label below a half where c < w / (1 + 2 w): at a smoothness weight w of 2, below two fifths it changes.
    """

    settings: TrainRefineSettings
    basis: Tensor

    def __init__(self, settings: TrainRefineSettings, network: RefineNetwork, basis: Tensor) -> None:
        super().__init__(settings)
        self.network = network
        self.register_buffer("basis", basis)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        done = (step + 1) / self.settings.steps
        return min(done / WARM_UP, 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the parts of the loss for a batch of `RefinementFrames`."""
        return self.semantic_losses(batch, self.forward(batch)["semantic"])

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the network on corrupted labels."""
        labels = corrupt(batch["labels"])
        return self.network(batch["features"], batch["log_depth"], batch["image"], labels)

    def semantic_losses(self, batch: dict[str, Tensor], logits: Tensor) -> dict[str, Tensor]:
        """Return weighted cross-entropy to the batch's labels, and smoothness. logits: (B, K, H, W)."""
        guide = self.guide(batch)
        labels = batch["labels"]
        confidence = local_agreement(labels, guide)
        logits = logits.float()
        cross_entropy = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")
        weighted = (confidence * cross_entropy).sum() / (labels >= 0).sum().clamp_min(1)
        # One distance per step: all of them would cost more than the network, and the mean is the same.
        dilation = DILATIONS[int(torch.randint(len(DILATIONS), ()))]
        smooth = pairwise_smoothness(logits.softmax(dim=1), guide, (dilation,))
        return {"cross_entropy": weighted, "smoothness": self.settings.smoothness_weight * smooth}

    @torch.no_grad()
    def guide(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the (B, G, H, W) pairwise guide of a batch."""
        trunk = self.network.trunk
        strongest = torch.einsum("pd,bdhw->bphw", self.basis, trunk.standardize(batch["features"]))
        size = batch["image"].shape[-2:]
        strongest = F.interpolate(strongest, size=size, mode="bilinear", align_corners=False)
        return pairwise_guide(batch["image"], batch["log_depth"], strongest)


def save_network(path: Path, network: RefineNetwork, settings: dict[str, Any]) -> None:
    """Write a refinement network as one file with what rebuilds it and names its inputs."""
    save_weights(path, network.state_dict(), {"network": type(network).__name__, **settings})


def load_network(path: Path) -> tuple[RefineNetwork, dict[str, Any]]:
    """Return (network in evaluation mode, settings) as `save_network` wrote them.

    Raises:
        UserError: missing file, or another network's.
    """

    def build(saved: dict[str, Any]) -> RefineNetwork:
        return NETWORKS[saved["network"]](**saved["shape"])

    return rebuild_network(path, build, "refinement", "train_refine_net.py")


def label_count(semantics: Folder, frames: Sequence[Frame], given: int | None) -> int:
    """Return the classes of a semantic folder: as given or told, else the highest class plus one.

    Raises:
        UserError: another number than `provenance.json` says.
    """
    return number_of_classes(semantics.directory, given) or count_classes(semantics, frames)


def train_refine_net(source: FrameSource, settings: TrainRefineSettings, run: RunOptions) -> None:
    """Train CSCMRefineNet on the source's images and write `refine_net.pth`.

    Raises:
        UserError: missing inputs, a folder with another run.
    """
    train_refinement(source, settings, run, "train_refine_net", CSCMRefineNet, RefineFit)


def train_refinement(
    source: FrameSource,
    settings: TrainRefineSettings,
    run: RunOptions,
    script: str,
    network_class: type[RefineNetwork],
    fit_class: Callable[..., RefineFit],
    data: Callable[..., RefinementFrames] = RefinementFrames,
    *,
    shape: Mapping[str, int] | None = None,
    inputs: Sequence[Path] = (),
) -> None:
    """Train a network and write `{script without "train_"}.pth`.

    Args:
        fit_class: makes the training of (settings, network, basis of the guide).
        data: data set class, or what makes one.
        shape: arguments of the network besides `feature_dim`, `num_classes` and `channels`.
        inputs: folders read besides those of `RefineFolders`, for provenance.

    Raises:
        UserError: missing inputs, a folder with another run.
    """
    name = script.removeprefix("train_")
    frames, root = source.frames(), run.root(source)
    names = {key: getattr(settings, key) for key in INPUTS}
    folders = RefineFolders.of(root, settings.height, **names)
    folders.require(frames)
    num_classes = label_count(folders.semantics, frames, settings.num_semantic_classes)
    settings = replace(settings, num_semantic_classes=num_classes)
    statistics = feature_statistics(frames, folders.features)
    sizes = {"feature_dim": len(statistics.mean), "num_classes": num_classes, "channels": settings.channels}
    whole_shape = {**sizes, **(shape or {})}
    torch.manual_seed(settings.seed)
    network = network_class(**whole_shape)
    network.trunk.set_statistics(statistics.mean, statistics.std)
    fit = fit_class(settings, network, statistics.basis)
    folder = settings.checkpoint_dir or root / name
    dataset = data(frames, folders, num_classes, settings.crop, settings.seed)
    train(fit, dataset, source, run, folder, script=script, inputs=[*folders.directories, *inputs])
    if fit.trainer.is_global_zero:
        path = folder / f"{name}.pth"
        save_network(path, network, {"shape": whole_shape, **names, "height": settings.height})
        log.info("weights: %s", path)
