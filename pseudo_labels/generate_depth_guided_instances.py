"""Stage 1: instance masks, by splitting the regions of thing classes along depth edges.

`--no_depth` gives the baseline, plain connected components.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.png import read_ids, read_image, write_png
from pseudo_labels.algorithms.instance_splitting import (
    SplitSettings,
    depth_guided_instances,
)
from pseudo_labels.inputs.labels import (
    DEFAULT_METHOD,
    DEPTH_FOLDER,
    INSTANCE_PREFIX,
    MAPPED_SEMANTICS,
    check_aspect,
    read_depth,
    read_semantic,
    thing_classes,
)
from pseudo_labels.steps.arguments import (
    add_outline_arguments,
    add_splitting_arguments,
    check_outlines,
    check_splitting,
)
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.step import Folder, Frame, list_frames, make_parser, output_root, run_stage

SCRIPT = "generate_depth_guided_instances"


@dataclass(frozen=True)
class GenerateInstances:
    """Picklable `process` of the step."""

    semantics: Folder
    depths: Folder | None
    output: Folder
    settings: SplitSettings

    def __call__(self, frame: Frame) -> None:
        """Write the instances of one frame."""
        semantic = read_semantic(self.semantics.path(frame))
        depth = None
        if self.depths is not None:
            depth = read_depth(self.depths.path(frame))
            check_aspect(self.depths.path(frame), depth.shape, semantic.shape)
        write_png(self.output.path(frame), depth_guided_instances(semantic, depth, self.settings))

    def show(self, frame: Frame) -> tuple[str, list[np.ndarray]]:
        """Return caption and pictures (image, depth, instances) of one frame for the contact sheet."""
        from cups.visualization import depth_to_color, instances_to_color
        from pseudo_labels.steps.pictures import fit

        image = read_image(frame.image)
        pictures = [image]
        if self.depths is not None:
            pictures.append(depth_to_color(read_depth(self.depths.path(frame))))
        pictures.append(instances_to_color(read_ids(self.output.path(frame))))
        return frame.stem, [fit(picture, image) for picture in pictures]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--semantic_subdir", default=MAPPED_SEMANTICS, help="semantic folder")
    parser.add_argument("--depth_subdir", default=DEPTH_FOLDER, help="depth folder")
    parser.add_argument("--no_depth", action="store_true", help="plain connected components")
    parser.add_argument("--method_name", help="pseudo_instance_{NAME} (depth_guided, or cc with --no_depth)")
    split = parser.add_argument_group("splitting")
    add_outline_arguments(split, grad_threshold=0.15)
    split.add_argument("--min_area", type=int, default=1000, help="pixels at the size of the label files")
    add_splitting_arguments(split)
    things = parser.add_mutually_exclusive_group()
    things.add_argument("--thing_classes", type=int, nargs="+", help="ids of the thing classes")
    things.add_argument("--split_json", type=Path, help="from classify_stuff_things.py (or the folder's)")
    return parser


def check_settings(args: argparse.Namespace, things: tuple[int, ...]) -> SplitSettings:
    """Return the settings of a command line.

    Raises:
        UserError: impossible values.
    """
    check_outlines(args)
    check_splitting(args)
    if args.min_area < 1:
        raise UserError(f"--min_area {args.min_area}: must be 1 or more")
    if args.no_depth and args.proposals == "objects":
        raise UserError("--proposals objects: comes from depth; leave out --no_depth")
    return SplitSettings(
        things,
        args.grad_threshold,
        args.min_area,
        args.dilation,
        args.sigma,
        args.proposals,
        args.min_thing_share,
        args.depth_blur,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    frames, root = list_frames(args), output_root(args)
    semantics = Folder(root, args.semantic_subdir, ".png")
    semantics.require(frames, "generate the semantics first, or check --semantic_subdir")
    things = thing_classes(semantics, args.thing_classes, args.split_json)
    # Recorded, so that a later run with another split does not take these files for its own.
    args.thing_classes = list(things)
    depths = None if args.no_depth else Folder(root, args.depth_subdir, ".npy")
    if depths is not None:
        depths.require(frames, "run pseudo_labels/generate_depth_spidepth.py first, or give --no_depth")
    method = args.method_name or ("cc" if args.no_depth else DEFAULT_METHOD)
    output = Folder(root, INSTANCE_PREFIX + method, ".png")
    process = GenerateInstances(semantics, depths, output, check_settings(args, things))
    inputs = [folder.directory for folder in (semantics, depths) if folder is not None]
    inputs += [args.split_json] if args.split_json else []
    run_stage(frames, process, [output], args, script=SCRIPT, inputs=inputs, show=process.show)
    return 0


if __name__ == "__main__":
    run_script(main)
