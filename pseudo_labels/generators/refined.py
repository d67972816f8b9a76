"""Semantic pseudo-labels refined by a trained CSCMRefineNet or JointRefineNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cups.errors import UserError
from cups.io.file_names import SPLIT_FILE
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import trained_weights
from cups.ops.smooth_labels import smooth_labels
from cups.taxonomy import id_dtype
from pseudo_labels.inputs.labels import find_things, write_split
from pseudo_labels.inputs.refine_inputs import INPUTS, RefineFolders, RefineInput
from pseudo_labels.networks.devices import pick_device
from pseudo_labels.networks.refine_training import RefineNetwork, load_network
from pseudo_labels.settings.refinement import RefinedSettings
from pseudo_labels.steps.ancestry import MADE_OF, made_of, refuse_other_features
from pseudo_labels.steps.folders import REFINED_PREFIX
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind, label_kind
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import Step, Summary, run_step
from pseudo_labels.steps.workers import Batched

SCRIPT = "generate_refined_semantics"
PREFIX = "pseudo_semantic_"


@torch.no_grad()
def refined_scores(network: RefineNetwork, inputs: Sequence[RefineInput], flip: bool) -> Tensor:
    """Return class probabilities of frames of one size: (B, H, W, K) float32 on the network's device.

    Args:
        flip: average with the prediction for the mirrored frames.
    """
    device = network.semantic.correction.weight.device
    views = [
        torch.stack([getattr(one, name) for one in inputs]).to(device)
        for name in ("features", "log_depth", "image", "labels")
    ]
    scores = network(*views)["semantic"].softmax(dim=1)
    if flip:
        mirrored = network(*(view.flip(-1) for view in views))["semantic"].softmax(dim=1)
        scores = (scores + mirrored.flip(-1)) / 2
    return scores.permute(0, 2, 3, 1)


@dataclass(frozen=True, eq=False)
class Refine:
    """The parts of a `Batched` step: a frame's inputs -> labels of the input's size and ids."""

    network: RefineNetwork
    num_classes: int
    folders: RefineFolders
    output: Folder
    flip: bool

    def load(self, frame: Frame) -> tuple[Tensor, RefineInput]:
        """Return the image (frames of one size share a batch) and all inputs of a frame."""
        inputs = self.folders.read(frame, self.num_classes)
        expected = len(self.network.trunk.feature_mean)
        if len(inputs.features) != expected:
            raise UserError(
                f"{self.folders.features.path(frame)}: {len(inputs.features)} channels, the network was "
                f"trained with {expected}; give the features of that backbone"
            )
        return inputs.image, inputs

    def compute(self, images: Tensor, inputs: Sequence[RefineInput]) -> list[np.ndarray]:
        """Return refined labels, one (H, W) uint8 or uint16 per frame."""
        dtype = id_dtype(self.num_classes)
        scores = refined_scores(self.network, inputs, self.flip)
        return [
            _labels(one, given.label_size).cpu().numpy().astype(dtype)
            for one, given in zip(scores, inputs, strict=True)
        ]

    def save(self, frame: Frame, labels: np.ndarray) -> None:
        """Write the labels of a frame."""
        write_png(self.output.path(frame), labels)

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, input, refined) of one frame for the contact sheet."""
        image = read_image(frame.image)
        before, after = (read_ids(folder.path(frame)) for folder in (self.folders.semantics, self.output))
        pictures = label_pictures(image, before, None, self.num_classes)
        return [*pictures, label_pictures(image, after, None, self.num_classes)[1]]


def _labels(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w, K) scores -> (H, W) labels."""
    return scores.argmax(dim=2) if scores.shape[:2] == size else smooth_labels(scores, size)


def refined_kind(semantics: Path, num_classes: int) -> LabelKind | None:
    """Return what refined labels are: the same as their input, None where nothing tells.

    A network that was trained for another number of classes than the input has makes clusters.
    """
    kind = label_kind(semantics)
    return kind if kind is None or kind.num_classes == num_classes else LabelKind("clusters", num_classes)


def carry_split(semantics: Folder, output: Folder, num_classes: int) -> None:
    """Write the input's thing/stuff split, where one is known, into the output: the ids are the same."""
    things = find_things(semantics)
    if things is not None:
        stuffs = [index for index in range(num_classes) if index not in set(things)]
        content: dict[str, object] = {"things": list(things), "stuffs": stuffs, "taken_from": semantics.name}
        write_split(output.directory / SPLIT_FILE, {**content, MADE_OF: made_of(output, None)})


def make_refined(source: FrameSource, settings: RefinedSettings, run: FrameRun) -> Summary:
    """Write the refined semantics of all frames.

    Raises:
        UserError: missing weights or inputs, or a folder with files of another run.
    """
    frames, root = run.part(source.frames()), run.root(source)
    network, trained = load_network(settings.checkpoint)
    names = {name: getattr(settings, name) or trained[name] for name in INPUTS}
    settings = replace(settings, **names)
    folders, num_classes = RefineFolders.of(root, trained["height"], **names), trained["shape"]["num_classes"]
    folders.require(frames)
    refuse_other_features(settings.checkpoint, folders.features.directory, trained["features_subdir"])
    semantics = folders.semantics
    output = Folder(root, REFINED_PREFIX + (settings.name or semantics.name.removeprefix(PREFIX)), ".png")
    parts = Refine(network.to(pick_device(settings.device)), num_classes, folders, output, settings.flip)
    step = Step(
        SCRIPT,
        settings,
        Batched(parts.load, parts.compute, parts.save, settings.batch_size),
        [output],
        parts.show,
        inputs=[folders.features, folders.depth, semantics],
        weights=[trained_weights(settings.checkpoint)],
        newer_than=settings.checkpoint,
        labels=refined_kind(semantics.directory, num_classes),
    )
    summary = run_step(source, step, run)
    carry_split(semantics, output, num_classes)
    return summary
