"""Stage 1: instance masks from the slots of DINOSAUR, inside the thing classes of a semantic folder.

A slot may hold several objects far apart, and stuff too: each slot is cut by the thing classes and split into
connected components.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cups.errors import UserError
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import trained_weights
from cups.ops.smooth_labels import smooth_labels
from pseudo_labels.algorithms.instance_splitting import SlotSettings, slot_instances
from pseudo_labels.inputs.features import feature_folder, read_features
from pseudo_labels.inputs.labels import (
    INSTANCE_PREFIX,
    MAPPED_SEMANTICS,
    check_aspect,
    read_semantic,
    thing_classes,
)
from pseudo_labels.networks.dinosaur import Dinosaur, load_dinosaur, slot_noise, slot_picture
from pseudo_labels.steps.arguments import require_at_least_one
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.pictures import fit
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

SCRIPT = "generate_dinosaur_instances"


class Wanted(NamedTuple):
    """What belongs to the features of a frame: its noise (S, D), the labels' size, its semantics."""

    noise: Tensor
    size: tuple[int, int]
    semantic: np.ndarray | None


@dataclass(frozen=True, eq=False)
class SlotStep:
    """The parts of a `Batched` step: features -> slots -> instances.

    Args:
        num_slots: may differ from that of training: all slots start from one distribution.
        seed: of the slots' start, together with the frame's name.
    """

    network: Dinosaur
    device: torch.device
    features: Folder
    semantics: Folder | None
    output: Folder
    settings: SlotSettings
    num_slots: int
    seed: int

    def load(self, frame: Frame) -> tuple[Tensor, Wanted]:
        """Return features (h, w, F) and what else is needed."""
        features = torch.from_numpy(read_features(self.features, frame))
        path, expected = self.features.path(frame), len(self.network.feature_mean)
        if features.shape[2] != expected:
            raise UserError(
                f"{path}: {features.shape[2]} channels, the network was trained with {expected}; "
                "give the features of that backbone"
            )
        semantic = None if self.semantics is None else read_semantic(self.semantics.path(frame))
        labels = read_image(frame.image) if semantic is None else semantic
        size = (labels.shape[0], labels.shape[1])
        check_aspect(path, (features.shape[0], features.shape[1]), size)
        noise = slot_noise(self.num_slots, self.network.slot_dim, self.seed, frame.stem)
        return features, Wanted(noise, size, semantic)

    def compute(
        self, features: Tensor, wanted: Sequence[Wanted]
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Return the slot of each pixel (H, W) and the semantics of each frame."""
        noise = torch.stack([one.noise for one in wanted])
        alphas = self.network.masks(features.to(self.device), noise.to(self.device))
        return [
            (smooth_labels(one, given.size).cpu().numpy(), given.semantic)
            for one, given in zip(alphas, wanted, strict=True)
        ]

    def save(self, frame: Frame, output: tuple[np.ndarray, np.ndarray | None]) -> None:
        """Write the instances of a frame."""
        write_png(self.output.path(frame), slot_instances(*output, self.settings))

    def show(self, frame: Frame) -> tuple[str, list[np.ndarray]]:
        """Return caption and pictures (image, slots, instances) of one frame for the contact sheet."""
        from cups.visualization import instances_to_color

        image = read_image(frame.image)
        features, wanted = self.load(frame)
        slots, _ = self.compute(features[None], [wanted])[0]
        pictures = [slot_picture(fit(image, slots), slots, self.num_slots)]
        pictures.append(instances_to_color(read_ids(self.output.path(frame))))
        return frame.stem, [image, *(fit(picture, image) for picture in pictures)]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = make_parser(__doc__ or "")
    add_batch_argument(parser, 4, what="frames of one token grid")
    parser.add_argument(
        "--checkpoint", type=Path, help="dinosaur.pth (default: where train_dinosaur.py writes it)"
    )
    parser.add_argument("--backbone", help="whose features_{NAME}/ to read (default: as in training)")
    parser.add_argument("--semantic_subdir", default=MAPPED_SEMANTICS, help="semantic folder")
    parser.add_argument("--method_name", default="dinosaur", help="output pseudo_instance_{NAME}")
    slots = parser.add_argument_group("slots")
    slots.add_argument("--num_slots", type=int, help="slots per frame (default: as in training)")
    slots.add_argument("--min_area", type=int, default=1000, help="pixels at the size of the label files")
    slots.add_argument(
        "--dilation", type=int, default=3, help="reach in pixels when dropped slivers are given to neighbours"
    )
    slots.add_argument(
        "--proposals",
        choices=("classes", "things", "slots"),
        default="classes",
        help="cut slots by each thing class, by their union, or not (semantics then only choose)",
    )
    slots.add_argument(
        "--min_thing_share",
        type=float,
        default=0.3,
        help="with --proposals slots: least share of thing pixels in one (0: without semantics)",
    )
    things = parser.add_mutually_exclusive_group()
    things.add_argument("--thing_classes", type=int, nargs="+", help="ids of the thing classes")
    things.add_argument("--split_json", type=Path, help="from classify_stuff_things.py (or the folder's)")
    return parser


def check(args: argparse.Namespace) -> None:
    """Raise a `UserError` for impossible arguments."""
    require_at_least_one(args, "min_area", "num_slots")
    if args.dilation < 0 or not 0 <= args.min_thing_share <= 1:
        raise UserError("--dilation must not be negative, --min_thing_share must lie in 0-1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    check(args)
    frames, root = list_frames(args), output_root(args)
    checkpoint = args.checkpoint or root / "dinosaur" / "dinosaur.pth"
    network, trained = load_dinosaur(checkpoint)
    features = feature_folder(root, args.backbone or trained["backbone"])
    features.require(frames, "extract the features first, or check --backbone")
    semantics: Folder | None = None
    things: tuple[int, ...] = ()
    if args.proposals != "slots" or args.min_thing_share > 0:
        semantics = Folder(root, args.semantic_subdir, ".png")
        semantics.require(frames, "generate the semantics first, or check --semantic_subdir")
        things = thing_classes(semantics, args.thing_classes, args.split_json)
        # Recorded, so that a later run with another split does not take these files for its own.
        args.thing_classes = list(things)
    output = Folder(root, INSTANCE_PREFIX + args.method_name, ".png")
    settings = SlotSettings(things, args.min_area, args.dilation, args.proposals, args.min_thing_share)
    device = pick_device(args)
    step = SlotStep(
        network.to(device),
        device,
        features,
        semantics,
        output,
        settings,
        args.num_slots or network.num_slots,
        args.seed,
    )
    inputs = [folder.directory for folder in (features, semantics) if folder is not None]
    inputs += [args.split_json] if args.split_json else []
    run_stage(
        frames,
        Batched(step.load, step.compute, step.save, args.batch_size),
        [output],
        args,
        script=SCRIPT,
        inputs=inputs,
        weights=[trained_weights(checkpoint)],
        newer_than=checkpoint,
        show=step.show,
    )
    return 0


if __name__ == "__main__":
    run_script(main)
