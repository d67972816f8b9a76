"""Stage 1: semantic and instance maps to COCO panoptic PNG files and one JSON per split."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.coco_panoptic import (
    PanopticFile,
    categories_of,
    read_panoptic,
    to_rgb,
    write_panoptic_json,
)
from cups.io.png import read_image, write_png
from cups.taxonomy import class_set, void_value
from pseudo_labels.algorithms.panoptic import merge
from pseudo_labels.inputs.labels import (
    DEFAULT_METHOD,
    INSTANCE_PREFIX,
    MAPPED_SEMANTICS,
    PANOPTIC_PREFIX,
    read_pair,
    thing_classes,
)
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.step import (
    Folder,
    Frame,
    all_frames,
    is_complete,
    list_frames,
    make_parser,
    output_root,
    run_stage,
)

SCRIPT = "generate_panoptic_pseudolabels"


@dataclass(frozen=True)
class Merge:
    """Picklable `process` of the step."""

    semantics: Folder
    instances: Folder
    output: Folder
    things: tuple[int, ...]
    num_classes: int

    def __call__(self, frame: Frame) -> None:
        """Write the panoptic PNG of one frame."""
        paths = self.semantics.path(frame), self.instances.path(frame)
        semantic, instance = read_pair(*paths, self.num_classes)
        try:
            segments = merge(semantic, instance, self.things, self.num_classes)
        except ValueError as error:
            raise UserError(f"{paths[1]}: {error}; raise --min_area of the instances") from None
        write_png(self.output.path(frame), to_rgb(segments))

    def show(self, frame: Frame) -> tuple[str, list[np.ndarray]]:
        """Return caption and pictures (image, panoptic map) of one frame for the contact sheet."""
        from pseudo_labels.steps.pictures import fit, panoptic_picture

        image = read_image(frame.image)
        panoptic = read_panoptic(self.output.path(frame), void_value(self.num_classes))
        picture = panoptic_picture(panoptic[..., 0], panoptic[..., 1], self.num_classes)
        return frame.stem, [image, fit(picture, image)]


def write_json(
    output: Folder, frames: Sequence[Frame], split: str, things: Sequence[int], num_classes: int
) -> Path:
    """Write COCO panoptic JSON for the frames of a split whose PNG exists; returns its path."""
    names = class_set(19).names if num_classes == 19 else [f"cluster {i}" for i in range(num_classes)]
    files = [
        PanopticFile(frame.stem, frame.image.name, str(output.path(frame).relative_to(output.directory)))
        for frame in frames
        if output.exists(frame)
    ]
    path = output.directory / f"{split}.json"
    write_panoptic_json(path, output.directory, files, categories_of(names, things))
    return path


def split_of(frame: Frame) -> str:
    """Return the split of a frame: its first folder, or "images" for a plain folder of images."""
    return frame.relative.parts[0] if frame.relative.parts else "images"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--semantic_subdir", default=MAPPED_SEMANTICS, help="semantic folder")
    parser.add_argument("--instance_subdir", default=INSTANCE_PREFIX + DEFAULT_METHOD, help="instance folder")
    parser.add_argument("--num_semantic_classes", type=int, default=19, help="number of pseudo-classes")
    parser.add_argument("--name", default=DEFAULT_METHOD, help="output folder pseudo_panoptic_{NAME}")
    things = parser.add_mutually_exclusive_group()
    things.add_argument("--thing_classes", type=int, nargs="+", help="ids of the thing classes")
    things.add_argument("--split_json", type=Path, help="from classify_stuff_things.py (or the folder's)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    num_classes = args.num_semantic_classes
    if not 0 < num_classes < 16000:
        raise UserError(f"--num_semantic_classes {num_classes}: must be between 1 and 15999")
    frames, root = list_frames(args), output_root(args)
    semantics = Folder(root, args.semantic_subdir, ".png")
    semantics.require(frames, "generate the semantics first, or check --semantic_subdir")
    instances = Folder(root, args.instance_subdir, ".png")
    instances.require(frames, "generate the instances first, or check --instance_subdir")
    things = thing_classes(semantics, args.thing_classes, args.split_json)
    # Recorded, so that a later run with another split does not take these files for its own.
    args.thing_classes = list(things)
    output = Folder(root, PANOPTIC_PREFIX + args.name, ".png")
    process = Merge(semantics, instances, output, things, num_classes)
    inputs = (semantics.directory, instances.directory)
    run_stage(frames, process, [output], args, script=SCRIPT, inputs=inputs, show=process.show)
    everything = all_frames(args) if is_complete(args, [output]) else []
    for split in sorted({split_of(frame) for frame in everything}):
        write_json(output, [f for f in everything if split_of(f) == split], split, things, num_classes)
    return 0


if __name__ == "__main__":
    run_script(main)
