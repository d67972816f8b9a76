"""Semantic pseudo-labels refined by a trained CSCMRefineNet or JointRefineNet; instances by the latter.

The labels that the network learned from are not read: it says what it learned.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import trained_weights
from cups.ops.components import keep_components
from cups.ops.resize import resize_ids
from cups.ops.smooth_labels import smooth_labels
from cups.taxonomy import id_dtype
from pseudo_labels.algorithms.embedding_instances import REACH, embedding_instances
from pseudo_labels.inputs.labels import carry_split, find_things, thing_regions
from pseudo_labels.inputs.refine_inputs import RefineFolders
from pseudo_labels.joint_refine_net import JointRefineNet
from pseudo_labels.networks.devices import images_at_once, pick_device
from pseudo_labels.networks.frozen_features import FeatureSource, feature_source, require_channels
from pseudo_labels.networks.refine_networks import RefineNetwork, load_network
from pseudo_labels.networks.stored import stored_folder, stored_number
from pseudo_labels.settings.feature_choice import Backbone
from pseudo_labels.settings.outlines import pixels_of
from pseudo_labels.settings.refinement import RefinedSettings
from pseudo_labels.steps.folders import FEATURES_PREFIX, INSTANCE_PREFIX, REFINED_PREFIX
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind, label_kind
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import Step, Summary, run_step
from pseudo_labels.steps.workers import Batched

log = logging.getLogger(__name__)
SCRIPT = "generate_refined_semantics"
PREFIX = "pseudo_semantic_"
JOINT_PREFIX = INSTANCE_PREFIX + "joint_"
MOST_ROWS = 8192
"""At which a network works."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """What belongs to the image of a frame: its log depth (1, h, w), a sample of its features, its size."""

    log_depth: Tensor
    sample: Tensor
    image_size: tuple[int, int]


@torch.no_grad()
def predict(network: RefineNetwork, views: Sequence[Tensor], flip: bool) -> dict[str, Tensor]:
    """Return the outputs of a network for (features, log depth, image), semantics as probabilities.

    Args:
        flip: average semantics with those of the mirrored view.
    """
    outputs = network(*views)
    scores = outputs["semantic"].softmax(dim=1)
    if flip:
        mirrored = network(*(view.flip(-1) for view in views))["semantic"].softmax(dim=1)
        scores = (scores + mirrored.flip(-1)) / 2
    return {**outputs, "semantic": scores}


@dataclass(frozen=True, eq=False)
class Refine:
    """The parts of a `Batched` step: what a network sees of a frame -> labels.

    Attributes:
        label_scale: rows of the labels written in those of the image.
        instances: where the instances of a `JointRefineNet` go.
        things: classes that have instances.
        min_area: of instances, pixels of an image of `REFERENCE_ROWS` rows.
    """

    network: RefineNetwork
    num_classes: int
    folders: RefineFolders
    features: FeatureSource
    output: Folder
    device: torch.device
    label_scale: float
    flip: bool
    instances: Folder | None = None
    things: tuple[int, ...] = ()
    min_area: int = 1

    @property
    def outputs(self) -> list[Folder]:
        """The folders written."""
        return [self.output, *([] if self.instances is None else [self.instances])]

    def load(self, frame: Frame) -> tuple[Tensor, Loaded]:
        """Return the image at the working size (frames of one size share a batch) and all else of a frame."""
        view, sample = self.folders.view(frame), self.features.sample(frame)
        return view.image, Loaded(view.log_depth, sample, view.image_size)

    def compute(self, images: Tensor, loaded: Sequence[Loaded]) -> list[list[np.ndarray]]:
        """Return the maps of each frame, (H, W) each: labels, and instances where they are written.

        Raises:
            UserError: features of another number of channels than in training.
        """
        outputs = self.predict(images, loaded)
        outputs["semantic"] = outputs["semantic"].movedim(1, -1)
        dtype, results = id_dtype(self.num_classes), []
        for number, given in enumerate(loaded):
            one = {name: maps[number] for name, maps in outputs.items()}
            size = self.label_size(given)
            labels = _labels(one["semantic"], size).cpu().numpy().astype(dtype)
            instances = [] if self.instances is None else [self.split(one, labels)]
            results.append([labels, *instances])
        return results

    def predict(self, images: Tensor, loaded: Sequence[Loaded]) -> dict[str, Tensor]:
        """Return what the network says of a batch, at the working size."""
        features = self.features.maps(torch.stack([one.sample for one in loaded]).to(self.device))
        require_channels(features, len(self.network.trunk.feature_mean))
        log_depth = torch.stack([one.log_depth for one in loaded]).to(self.device)
        return predict(self.network, (features.movedim(-1, 1), log_depth, images.to(self.device)), self.flip)

    def split(self, outputs: Mapping[str, Tensor], labels: np.ndarray) -> np.ndarray:
        """Return the instances of one frame at the size of its labels: (H, W) uint16.

        outputs: of a `JointRefineNet`, (h, w, K) semantics, (1, h, w) boundary, (E, h, w) embedding.
        """
        small = outputs["semantic"].argmax(dim=2).cpu().numpy().astype(labels.dtype)
        ids = embedding_instances(
            outputs["embedding"].float().cpu().numpy(),
            outputs["boundary"][0].cpu().numpy() > 0,
            thing_regions(small, self.things, merged=True) > 0,
            min_area=pixels_of(self.min_area, small.shape[0]),
        )
        regions = thing_regions(labels, self.things, merged=True).astype(np.uint8)
        whole = resize_ids(torch.from_numpy(ids.astype(np.int64)), (labels.shape[0], labels.shape[1]))
        return keep_components(whole.numpy() * regions, regions, dilation=REACH)

    def label_size(self, given: Loaded) -> tuple[int, int]:
        """Return (H, W) of the labels of a frame."""
        rows, columns = (max(1, round(side * self.label_scale)) for side in given.image_size)
        return rows, columns

    def save(self, frame: Frame, maps: Sequence[np.ndarray]) -> None:
        """Write the maps of a frame."""
        for folder, ids in zip(self.outputs, maps, strict=True):
            write_png(folder.path(frame), ids)

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, refined labels, instances) of one frame for the contact sheet."""
        labels, *instances = (read_ids(folder.path(frame)) for folder in self.outputs)
        instance = instances[0] if instances else None
        return label_pictures(read_image(frame.image), labels, instance, self.num_classes)


def _labels(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w, K) scores -> (H, W) labels."""
    return scores.argmax(dim=2) if scores.shape[:2] == size else smooth_labels(scores, size)


def refined_kind(semantics: Path, num_classes: int) -> LabelKind | None:
    """Return what refined labels are: the same as their input, None where nothing tells.

    A network that was trained for another number of classes than the input has makes clusters.
    """
    kind = label_kind(semantics)
    return kind if kind is None or kind.num_classes == num_classes else LabelKind("clusters", num_classes)


def make_refined(source: FrameSource, settings: RefinedSettings, run: FrameRun) -> Summary:
    """Write the refined semantics of all frames.

    Raises:
        UserError: missing weights or inputs, or a folder with files of another run.
    """
    frames, root = run.part(source.frames()), run.root(source)
    network, trained = load_network(settings.checkpoint)
    settings = as_trained(settings, trained)
    height = stored_number(trained, "height", 1, MOST_ROWS, settings.checkpoint)
    scale = stored_number(trained, "label_scale", 1 / MOST_ROWS, 16, settings.checkpoint)
    folders = RefineFolders.of(
        root,
        height,
        depth_subdir=str(settings.depth_subdir),
        semantic_subdir=str(settings.semantic_subdir),
    )
    folders.require_depth(frames)
    backbone = Backbone(str(settings.backbone), settings.backbone_checkpoint)
    features = feature_source(root, frames, backbone, settings.device, settings.features_subdir)
    device, num_classes = pick_device(settings.device), trained["shape"]["num_classes"]
    told = str(trained.get("features_subdir") or f"{FEATURES_PREFIX}{trained.get('backbone')}")
    features.refuse_others_than(settings.checkpoint, told)
    semantics = folders.semantics
    output = Folder(root, REFINED_PREFIX + (settings.name or semantics.name.removeprefix(PREFIX)), ".png")
    parts = Refine(
        network.to(device),
        num_classes,
        folders,
        features,
        output,
        device,
        scale,
        settings.flip,
        *instance_choice(network, semantics, output),
        settings.min_instance_area,
    )
    step = Step(
        SCRIPT,
        settings,
        Batched(parts.load, parts.compute, parts.save, images_at_once(settings.batch_size, device)),
        parts.outputs,
        parts.show,
        inputs=[*features.inputs, folders.depth],
        weights=[trained_weights(settings.checkpoint), *features.weights],
        newer_than=settings.checkpoint,
        labels=refined_kind(semantics.directory, num_classes),
    )
    summary = run_step(source, step, run)
    carry_split(semantics, output, num_classes)
    return summary


def as_trained(settings: RefinedSettings, trained: Mapping[str, Any]) -> RefinedSettings:
    """Return the settings with the inputs that the network was trained on, where none are named.

    Raises:
        UserError: it was trained on a file or folder that only the user may name.
    """
    path = settings.checkpoint
    chosen = settings.chosen(trained, path)
    names: dict[str, Any] = {"backbone": chosen.backbone, "backbone_checkpoint": chosen.backbone_checkpoint}
    for key in ("semantic_subdir", "depth_subdir"):
        names[key] = getattr(settings, key) or stored_folder(trained, key, path)
    # Another backbone than then has its own folder.
    if not settings.features_subdir and not settings.backbone and not settings.backbone_checkpoint:
        told = trained.get("features_subdir")
        names["features_subdir"] = None if told is None else stored_folder(trained, "features_subdir", path)
    return replace(settings, **names)


def instance_choice(
    network: RefineNetwork, semantics: Folder, output: Folder
) -> tuple[Folder | None, tuple[int, ...]]:
    """Return where a network's instances go, and the classes that have some; no folder where it makes none.

    semantics: those learned from, whose split tells the things; output: the refined ones.
    """
    if not isinstance(network, JointRefineNet):
        return None, ()
    things = find_things(semantics)
    if not things:
        log.warning("%s tells no things, so no instances are written", semantics.directory)
        return None, ()
    return Folder(output.root, JOINT_PREFIX + output.name.removeprefix(PREFIX), ".png"), things
