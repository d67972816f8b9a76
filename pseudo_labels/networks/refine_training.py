"""Training of the refinement networks on their own input, without labels."""

from __future__ import annotations

import argparse
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cups.errors import UserError
from pseudo_labels.inputs.labels import DEPTH_FOLDER, count_classes
from pseudo_labels.inputs.refine_inputs import RefineFolders, RefinementFrames, feature_statistics
from pseudo_labels.joint_refine_net import JointRefineNet
from pseudo_labels.losses.pairwise_smoothness import (
    DILATIONS,
    local_agreement,
    pairwise_guide,
    pairwise_smoothness,
)
from pseudo_labels.networks.training import Fit, add_training_arguments, rebuild_network, save_weights, train
from pseudo_labels.refine_net import CSCMRefineNet
from pseudo_labels.steps.arguments import require_at_least_one
from pseudo_labels.steps.step import Folder, Frame, list_frames, make_parser, output_root

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

    basis: Tensor

    def __init__(self, args: argparse.Namespace, network: RefineNetwork, basis: Tensor) -> None:
        super().__init__(args)
        self.network = network
        self.register_buffer("basis", basis)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        done = (step + 1) / self.args.steps
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
        return {"cross_entropy": weighted, "smoothness": self.args.smoothness_weight * smooth}

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


def build_parser(description: str) -> argparse.ArgumentParser:
    """Return the command line that both trainings share."""
    parser = make_parser(description, shards=False)
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("--semantic_subdir", default="pseudo_semantic_cause27", help="semantics to refine")
    inputs.add_argument("--features_subdir", default="features_dinov2_vitb14", help="feature folder")
    inputs.add_argument("--depth_subdir", default=DEPTH_FOLDER, help="depth folder")
    inputs.add_argument(
        "--num_semantic_classes", type=int, help="(default: by the folder's name, else the highest plus one)"
    )
    inputs.add_argument("--height", type=int, default=512, help="image rows at which the network works")
    inputs.add_argument("--crop", type=int, default=256, help="side of training crops at that height, pixels")
    network = parser.add_argument_group("network")
    network.add_argument("--checkpoint_dir", type=Path, help="output folder (default: in --output_root)")
    network.add_argument("--channels", type=int, default=64, help="width")
    network.add_argument(
        "--smoothness_weight", type=float, default=2.0, help="of agreement between look-alike neighbours"
    )
    add_training_arguments(parser, steps=4000, batch_size=8, lr=2e-3, clip=1.0)
    return parser


def number_of_classes(semantics: Folder, frames: Sequence[Frame], given: int | None) -> int:
    """Return the classes of a semantic folder: as given, as its name says, else the highest plus one."""
    if given is not None:
        return given
    if "_mapped_" in semantics.name:
        return 19
    named = re.search(r"_(?:cause|k|merged)(\d+)$", semantics.name)
    return int(named[1]) if named else count_classes(semantics, frames)


def run_training(
    args: argparse.Namespace,
    script: str,
    network_class: type[RefineNetwork],
    fit_class: type[RefineFit],
    data: Callable[..., RefinementFrames] = RefinementFrames,
    *,
    shape: Mapping[str, int] | None = None,
    inputs: Sequence[Path] = (),
) -> Path:
    """Train a network and write `{script without "train_"}.pth`; return its path.

    Args:
        data: data set class, or what makes one.
        shape: arguments of the network besides `feature_dim`, `num_classes` and `channels`.
        inputs: folders read besides those of `RefineFolders`, for provenance.

    Raises:
        UserError: missing inputs, impossible arguments.
    """
    _check(args)
    name = script.removeprefix("train_")
    frames, root = list_frames(args), output_root(args)
    folders = RefineFolders.of(root, vars(args))
    folders.require(frames)
    num_classes = number_of_classes(folders.semantics, frames, args.num_semantic_classes)
    args.num_semantic_classes = num_classes
    statistics = feature_statistics(frames, folders.features)
    torch.manual_seed(args.seed)
    whole_shape = {
        "feature_dim": len(statistics.mean),
        "num_classes": num_classes,
        "channels": args.channels,
        **(shape or {}),
    }
    network = network_class(**whole_shape)
    network.trunk.set_statistics(statistics.mean, statistics.std)
    fit = fit_class(args, network, statistics.basis)
    folder = Path(args.checkpoint_dir or root / name)
    train(
        fit,
        data(frames, folders, num_classes, args.crop, args.seed),
        args,
        folder,
        script=script,
        inputs=[*folders.directories, *inputs],
    )
    path = folder / f"{name}.pth"
    if fit.trainer.is_global_zero:
        chosen = ("semantic_subdir", "features_subdir", "depth_subdir", "height")
        save_network(path, network, {"shape": whole_shape, **{key: getattr(args, key) for key in chosen}})
        log.info("weights: %s", path)
    return path


def _check(args: argparse.Namespace) -> None:
    require_at_least_one(args, "height", "crop", "channels")
    if args.num_semantic_classes is not None and not 1 <= args.num_semantic_classes <= 65534:
        raise UserError(f"--num_semantic_classes {args.num_semantic_classes}: must be between 1 and 65534")
    if args.smoothness_weight < 0:
        raise UserError(f"--smoothness_weight {args.smoothness_weight}: must not be negative")
