"""Refine semantic pseudo-labels by a trained CSCMRefineNet or JointRefineNet."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cups.errors import UserError
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import trained_weights
from cups.ops.smooth_labels import smooth_labels
from cups.taxonomy import VOID, void_value
from pseudo_labels.inputs.labels import SPLIT_FILE, find_things, write_split
from pseudo_labels.inputs.refine_inputs import RefineFolders, RefineInput
from pseudo_labels.networks.refine_training import RefineNetwork, load_network
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import (
    Folder,
    Frame,
    add_batch_argument,
    list_frames,
    make_parser,
    output_root,
    pick_device,
    run_stage,
)
from pseudo_labels.steps.workers import Batched

SCRIPT = "generate_refined_semantics"
PREFIX = "pseudo_semantic_refined_"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__ or "")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="refine_net.pth or joint_refine_net.pth"
    )
    parser.add_argument("--semantic_subdir", help="semantics to refine (default: those trained on)")
    parser.add_argument("--features_subdir", help="feature folder (default: as in training)")
    parser.add_argument("--depth_subdir", help="depth folder (default: as in training)")
    parser.add_argument(
        "--name", help="pseudo_semantic_refined_{NAME} (default: that of the input after pseudo_semantic_)"
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirrored view")
    add_batch_argument(parser, 4)
    return parser.parse_args(argv)


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
    """The step: reads a frame's inputs, refines, writes labels of the input's size and ids."""

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
        dtype = np.uint8 if void_value(self.num_classes) == VOID else np.uint16
        scores = refined_scores(self.network, inputs, self.flip)
        return [
            _labels(one, given.label_size).cpu().numpy().astype(dtype)
            for one, given in zip(scores, inputs, strict=True)
        ]

    def save(self, frame: Frame, labels: np.ndarray) -> None:
        """Write the labels of a frame."""
        write_png(self.output.path(frame), labels)

    def show(self, frame: Frame) -> tuple[str, list[np.ndarray]]:
        """Return caption and pictures (image, input, refined) of one frame for the contact sheet."""
        image = read_image(frame.image)
        before, after = (read_ids(folder.path(frame)) for folder in (self.folders.semantics, self.output))
        pictures = label_pictures(image, before, None, self.num_classes)
        return frame.stem, [*pictures, label_pictures(image, after, None, self.num_classes)[1]]


def _labels(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w, K) scores -> (H, W) labels."""
    return scores.argmax(dim=2) if scores.shape[:2] == size else smooth_labels(scores, size)


def carry_split(semantics: Folder, output: Folder, num_classes: int) -> None:
    """Write the input's thing/stuff split, where one is known, into the output: the ids are the same."""
    things = find_things(semantics)
    if things is not None:
        stuffs = [index for index in range(num_classes) if index not in set(things)]
        content: dict[str, object] = {"things": list(things), "stuffs": stuffs, "taken_from": semantics.name}
        write_split(output.directory / SPLIT_FILE, content)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_arguments(argv)
    frames, root = list_frames(args), output_root(args)
    network, settings = load_network(args.checkpoint)
    for key in ("semantic_subdir", "features_subdir", "depth_subdir"):
        setattr(args, key, getattr(args, key) or settings[key])
    folders = RefineFolders.of(root, {**settings, **vars(args)})
    folders.require(frames)
    name = args.name or args.semantic_subdir.removeprefix("pseudo_semantic_")
    output = Folder(root, PREFIX + name, ".png")
    num_classes = settings["shape"]["num_classes"]
    step = Refine(network.to(pick_device(args)), num_classes, folders, output, args.flip)
    run_stage(
        frames,
        Batched(step.load, step.compute, step.save, args.batch_size),
        [output],
        args,
        script=SCRIPT,
        inputs=folders.directories,
        weights=[trained_weights(args.checkpoint)],
        newer_than=args.checkpoint,
        show=step.show,
    )
    carry_split(folders.semantics, output, num_classes)
    return 0


if __name__ == "__main__":
    run_script(main)
