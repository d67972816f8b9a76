"""Training of the refinement networks on pseudo-labels, without ground truth."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from cups.io.files import as_stored
from cups.ops.resize import resize_ids
from pseudo_labels.algorithms.discriminant import Moments
from pseudo_labels.inputs.features import feature_statistics
from pseudo_labels.inputs.labels import count_classes
from pseudo_labels.inputs.refine_inputs import RefineFolders
from pseudo_labels.losses.pairwise_smoothness import (
    draw_pairs,
    pairwise_guide,
    pairwise_smoothness,
)
from pseudo_labels.networks.devices import pick_device
from pseudo_labels.networks.frozen_features import FeatureReader, FeatureSource, feature_source
from pseudo_labels.networks.refine_crops import RefinementFrames
from pseudo_labels.networks.refine_networks import RefineNetwork, save_network
from pseudo_labels.networks.training import Fit, train
from pseudo_labels.refine_net import CSCMRefineNet, at_pixels
from pseudo_labels.settings.refinement import START_FRAMES, TrainRefineSettings
from pseudo_labels.steps.frames import Folder, Frame, FrameSource, input_paths
from pseudo_labels.steps.label_kind import number_of_classes
from pseudo_labels.steps.left_out import readable
from pseudo_labels.steps.options import RunOptions

log = logging.getLogger(__name__)

INPUTS = ("semantic_subdir", "backbone", "features_subdir", "depth_subdir")
"""Settings that name the inputs; a network keeps those that it was trained on."""
SAMPLED = 16
"""One pixel in so many is looked at in a step: neighbours tell the same, and many classes cost memory."""
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""


class RefineFit(Fit):
    """Training of a refinement network to say the pseudo-labels from everything else, without ground truth.

    Two parts, on random pixels: cross-entropy to the labels; and neighbours that look alike shall agree. The
    labels are a target only. What is chance in them cannot be told from features, depth and image, and a
    short training of a small network does not learn it by heart.

    Args:
        features: where the features of crops come from.
        basis: of the guide, see `inputs.features.FeatureStatistics`.
    """

    settings: TrainRefineSettings
    basis: Tensor

    def __init__(
        self, settings: TrainRefineSettings, network: RefineNetwork, features: FeatureSource, basis: Tensor
    ) -> None:
        super().__init__(settings)
        self.network = network
        self.features = features
        self.register_buffer("basis", basis)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then half a cosine to zero."""
        done = (step + 1) / self.settings.steps
        return min(done / WARM_UP, 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the parts of the loss for a batch of `RefinementFrames`."""
        batch = self.with_features(batch)
        pixels = self.pixels(batch)
        return self.semantic_losses(batch, pixels, self.outputs(batch, pixels)["semantic"])

    def with_features(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a batch of `RefinementFrames` whose `features` are those of the crops, (B, D, h, w)."""
        crops = self.features.crops(batch["features"], batch["window"])
        return {**batch, "features": crops.movedim(-1, 1)}

    def pixels(self, batch: dict[str, Tensor]) -> Tensor:
        """Draw pairs of pixels, the same in each crop: (2 N,), first the N first of each pair."""
        height, width = batch["labels"].shape[1:]
        pairs = draw_pairs(height, width, max(1, height * width // (2 * SAMPLED)))
        return torch.cat(pairs).to(batch["labels"].device)

    def outputs(self, batch: dict[str, Tensor], pixels: Tensor) -> dict[str, Tensor]:
        """Return what the network says of a batch `with_features`."""
        return self.network(batch["features"], batch["log_depth"], batch["image"], pixels)

    def semantic_losses(self, batch: dict[str, Tensor], pixels: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Return cross-entropy to the batch's labels, and smoothness. logits: (B, K, 2 N) of `pixels`."""
        logits = logits.float()
        labels = batch["labels"].flatten(1)[:, pixels]
        cross_entropy = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        losses = {"cross_entropy": cross_entropy / (labels >= 0).sum().clamp_min(1)}
        if self.settings.smoothness_weight > 0:
            pairs = (2, len(pixels) // 2)
            probabilities = logits.softmax(dim=1).unflatten(2, pairs)
            smooth = pairwise_smoothness(probabilities, self.guide(batch, pixels).unflatten(2, pairs))
            losses["smoothness"] = self.settings.smoothness_weight * smooth
        return losses

    @torch.no_grad()
    def guide(self, batch: dict[str, Tensor], pixels: Tensor) -> Tensor:
        """Return the (B, G, 2 N) pairwise guide of the pixels of a batch."""
        standard = self.network.trunk.standardize(batch["features"])
        strongest = torch.einsum("pd,bdhw->bphw", self.basis, standard).float()
        height, width = batch["image"].shape[-2:]
        image, log_depth = (batch[name].flatten(2)[..., pixels] for name in ("image", "log_depth"))
        parts = (image, log_depth, at_pixels(strongest, (height, width), pixels))
        return pairwise_guide(*(part[..., None, :] for part in parts))[..., 0, :]


@torch.no_grad()
def fit_start(
    network: RefineNetwork, frames: Sequence[Frame], folders: RefineFolders, read: FeatureReader
) -> None:
    """Set the network's discriminants of the classes, from the labels of evenly chosen frames."""
    trunk, head = network.trunk.to(read.device), network.semantic
    moments = Moments(len(head.correction.bias), trunk.context_channels)
    for frame in tqdm(frames[:: -(-len(frames) // START_FRAMES)], desc="discriminants", unit="img"):
        view = folders.view(frame)
        features = torch.from_numpy(read(frame)).movedim(-1, 0)
        views = (maps[None].to(read.device) for maps in (features, view.log_depth, view.image))
        context = trunk.context(*views)[0]
        labels, _ = folders.labels(frame, view, len(moments.counts))
        labels = resize_ids(labels, (context.shape[1], context.shape[2]))
        moments.add(context.flatten(1).T, labels.flatten().to(read.device))
    head.set_start(*moments.discriminants())
    network.cpu()


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
        fit_class: makes the training of (settings, network, source of features, basis of the guide).
        data: data set class, or what makes one.
        shape: arguments of the network besides `feature_dim`, `num_classes` and `channels`.
        inputs: folders read besides those that all refinement networks learn from, for provenance.

    Raises:
        UserError: missing inputs, a folder with another run.
    """
    name = script.removeprefix("train_")
    source = readable(source, run)
    frames, root = source.frames(), run.root(source)
    folders = RefineFolders.of(
        root, settings.height, depth_subdir=settings.depth_subdir, semantic_subdir=settings.semantic_subdir
    )
    folders.require_depth(frames)
    folders.require_labels(frames)
    features = feature_source(root, frames, settings, settings.device, settings.features_subdir)
    num_classes = label_count(folders.semantics, frames, settings.num_semantic_classes)
    settings = replace(settings, num_semantic_classes=num_classes)
    read = FeatureReader(features, pick_device(settings.device))
    statistics = feature_statistics(frames, read)
    sizes = {"feature_dim": len(statistics.mean), "num_classes": num_classes, "channels": settings.channels}
    whole_shape = {**sizes, **(shape or {})}
    torch.manual_seed(settings.seed)
    network = network_class(**whole_shape)
    network.trunk.set_statistics(statistics.mean, statistics.std)
    fit_start(network, frames, folders, read)
    fit = fit_class(settings, network, features, statistics.basis)
    folder = settings.checkpoint_dir or root / name
    dataset = data(frames, folders, features, num_classes, settings.crop, settings.seed)
    inputs = [*input_paths(features.inputs), folders.depth.directory, folders.semantics.directory, *inputs]
    train(fit, dataset, source, run, folder, script=script, inputs=inputs, weights=features.weights)
    if fit.trainer.is_global_zero:
        path = folder / f"{name}.pth"
        told = as_stored({key: getattr(settings, key) for key in (*INPUTS, "backbone_checkpoint")})
        scale = dataset.label_scale(frames[0])
        content = {"shape": whole_shape, **told, "height": settings.height, "label_scale": scale}
        save_network(path, network, content)
        log.info("weights: %s", path)
