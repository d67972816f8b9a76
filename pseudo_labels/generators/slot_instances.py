"""Instance masks from the slots of DINOSAUR, inside the thing classes of a semantic folder.

A slot may hold several objects far apart, and stuff too: each slot is cut by the thing classes and split into
connected components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import trained_weights
from cups.ops.smooth_labels import smooth_labels
from cups.visualization import instances_to_color
from pseudo_labels.algorithms.instance_splitting import slot_instances
from pseudo_labels.generators.thing_stuff import required_things
from pseudo_labels.inputs.labels import check_aspect, read_semantic
from pseudo_labels.networks.devices import images_at_once, pick_device
from pseudo_labels.networks.dinosaur import Dinosaur, load_dinosaur, slot_noise, slot_picture
from pseudo_labels.networks.frozen_features import FeatureSource, feature_source, require_channels
from pseudo_labels.settings.dinosaur import SlotInstanceSettings, SlotSettings
from pseudo_labels.steps.folders import FEATURES_PREFIX
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.nothing import require_instances
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import fit
from pseudo_labels.steps.step import Step, Summary, is_complete, run_step
from pseudo_labels.steps.workers import Batched

SCRIPT = "generate_dinosaur_instances"


class Wanted(NamedTuple):
    """What belongs to a sample of features: its noise (S, D), the labels' size, its semantics."""

    noise: Tensor
    size: tuple[int, int]
    semantic: np.ndarray | None


@dataclass(frozen=True, eq=False)
class SlotStep:
    """The parts of a `Batched` step: features -> slots -> instances.

    Args:
        things: thing classes; empty without semantics.
        num_slots: may differ from that of training: all slots start from one distribution.
        seed: of the slots' start, together with the frame's name.
    """

    network: Dinosaur
    device: torch.device
    features: FeatureSource
    semantics: Folder | None
    output: Folder
    things: tuple[int, ...]
    settings: SlotSettings
    num_slots: int
    seed: int

    def load(self, frame: Frame) -> tuple[Tensor, Wanted]:
        """Return a sample of the features and what else is needed."""
        sample = self.features.sample(frame)
        semantic = None if self.semantics is None else read_semantic(self.semantics.path(frame))
        labels = read_image(frame.image) if semantic is None else semantic
        size = (labels.shape[0], labels.shape[1])
        check_aspect(self.features.name(frame), self.features.grid(sample), size)
        noise = slot_noise(self.num_slots, self.network.slot_dim, self.seed, frame.stem)
        return sample, Wanted(noise, size, semantic)

    def compute(
        self, samples: Tensor, wanted: Sequence[Wanted]
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Return the slot of each pixel (H, W) and the semantics of each frame.

        Raises:
            UserError: features of another number of channels than in training.
        """
        features = self.features.maps(samples.to(self.device))
        require_channels(features, len(self.network.feature_mean))
        noise = torch.stack([one.noise for one in wanted])
        alphas = self.network.masks(features, noise.to(self.device))
        return [
            (smooth_labels(one, given.size).cpu().numpy(), given.semantic)
            for one, given in zip(alphas, wanted, strict=True)
        ]

    def save(self, frame: Frame, output: tuple[np.ndarray, np.ndarray | None]) -> None:
        """Write the instances of a frame."""
        write_png(self.output.path(frame), slot_instances(*output, self.things, self.settings))

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, slots, instances) of one frame for the contact sheet."""
        image = read_image(frame.image)
        sample, wanted = self.load(frame)
        slots, _ = self.compute(sample[None], [wanted])[0]
        pictures = [slot_picture(fit(image, slots), slots, self.num_slots)]
        pictures.append(instances_to_color(read_ids(self.output.path(frame))))
        return [image, *(fit(picture, image) for picture in pictures)]


def make_slot_instances(source: FrameSource, settings: SlotInstanceSettings, run: FrameRun) -> Summary:
    """Write the instances of all frames.

    Raises:
        UserError: missing weights, features or semantics, no thing/stuff split, or a folder with files of
            another run.
    """
    frames, root = run.part(source.frames()), run.root(source)
    checkpoint = settings.checkpoint or root / "dinosaur" / "dinosaur.pth"
    network, trained = load_dinosaur(checkpoint)
    features = feature_source(root, frames, settings.chosen(trained, checkpoint), settings.device)
    features.refuse_others_than(checkpoint, f"{FEATURES_PREFIX}{trained.get('backbone')}")
    semantics: Folder | None = None
    things: tuple[int, ...] = ()
    if settings.needs_semantics:
        semantics = Folder(root, settings.semantic_subdir, ".png")
        semantics.require(frames, "generate the semantics first, or check `semantic_subdir`")
        things = required_things(source, semantics, settings, run)
    output = Folder(root, settings.folder, ".png")
    device = pick_device(settings.device)
    parts = SlotStep(
        network.to(device),
        device,
        features,
        semantics,
        output,
        things,
        settings,
        settings.num_slots or network.num_slots,
        settings.seed,
    )
    step = Step(
        SCRIPT,
        settings if semantics is None else settings.with_things(things),
        Batched(parts.load, parts.compute, parts.save, images_at_once(settings.batch_size, device)),
        [output],
        parts.show,
        inputs=[
            *features.inputs,
            *([] if semantics is None else [semantics]),
            *([settings.split_json] if settings.split_json else []),
        ],
        weights=[trained_weights(checkpoint), *features.weights],
        newer_than=checkpoint,
    )
    summary = run_step(source, step, run)
    if is_complete(source.frames(), [output], run):
        require_instances(output, source.frames(), settings.least_found, parts.show, settings.accept_nothing)
    return summary
