"""Stage 1: instance masks, by splitting the regions of thing classes along depth edges.

`--no_depth` gives the baseline, plain connected components.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cups.errors import UserError
from cups.io.png import read_ids, read_image, write_png
from cups.ops.components import cut_components, keep_components, keep_things
from cups.ops.depth_edges import REFERENCE_HEIGHT, depth_edges
from cups.ops.ground import ObjectModel, fit_ground, object_regions
from pseudo_labels.inputs.labels import (
    DEFAULT_METHOD,
    DEPTH_FOLDER,
    INSTANCE_PREFIX,
    MAPPED_SEMANTICS,
    check_aspect,
    read_depth,
    read_semantic,
    thing_classes,
    thing_regions,
)
from pseudo_labels.steps.arguments import add_outline_arguments, check_outlines
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.step import Folder, Frame, list_frames, make_parser, output_root, run_stage

SCRIPT = "generate_depth_guided_instances"


@dataclass(frozen=True)
class SplitSettings:
    """How regions are split.

    Attributes:
        things: thing classes (ids of the semantic maps).
        grad_threshold: natural-log depth step above which a pixel is cut (see `depth_edges`).
        min_area: pixels of the label map; smaller components are dropped.
        dilation: pixels of the label map within which cut pixels go back to a component.
        sigma: smoothing of the depth (see `depth_edges`).
        proposals: what is split. "classes": the regions of each thing class. "things": the union of the thing
            classes, for overclustered semantics in which one object is made of several classes. "objects":
            nothing; depth alone proposes the masks (`cups.ops.ground.object_regions`), and those with thing
            pixels on at least `min_thing_share` of their area are kept. In the last two each instance takes
            its majority class in the next step.
        min_thing_share: see `proposals`.
        depth_blur: with "objects": share of the image height over which a step of depth is spread (see
            `cups.ops.ground.ObjectModel`).
    """

    things: tuple[int, ...]
    grad_threshold: float = 0.15
    min_area: int = 1000
    dilation: int = 3
    sigma: float = 1.0
    proposals: str = "classes"
    min_thing_share: float = 0.3
    depth_blur: float = 0.0


def depth_guided_instances(
    semantic: np.ndarray, depth: np.ndarray | None, settings: SplitSettings
) -> np.ndarray:
    """Return instances of the thing classes: (H, W) uint16, 0 = none, 1, 2, ... in falling area.

    Args:
        semantic: (H, W) uint8 or uint16 classes.
        depth: (h, w) float, positive, the same view at any size; None for plain connected components.
    """
    regions = thing_regions(semantic, settings.things, merged=settings.proposals != "classes")
    threshold = None if depth is None else settings.grad_threshold
    (keep,) = splits_of(regions, depth, (threshold,), settings)
    return keep(min_area=settings.min_area)


def splits_of(
    regions: np.ndarray, depth: np.ndarray | None, thresholds: Sequence[float | None], settings: SplitSettings
) -> Iterator[Callable[..., np.ndarray]]:
    """Yield a function for each threshold (None: no depth): `keep(min_area=...)` returns the instances.

    Args:
        regions: (H, W), 0 = no thing (`thing_regions`).
        depth: (h, w) float, positive; None if no threshold needs it.
        settings: all but threshold and least area.
    """
    is_thing, strength = regions > 0, None
    if depth is not None:
        if depth.shape != regions.shape:
            # Nearest: a mean of two depths is a surface that does not exist.
            depth = cv2.resize(depth, regions.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        if settings.proposals != "objects":
            strength = depth_edges(depth, settings.sigma, inside=is_thing)
    for threshold in thresholds:
        if threshold is None:
            yield partial(keep_components, cut_components(regions), regions)
        elif strength is not None:
            components = cut_components(regions, strength > threshold)
            yield partial(keep_components, components, regions, dilation=settings.dilation)
        else:
            assert depth is not None, "a threshold needs depth"
            objects = object_proposals(depth, ObjectModel(edge=threshold, blur=settings.depth_blur))
            yield partial(keep_things, objects, is_thing, settings.min_thing_share)


def object_proposals(depth: np.ndarray, model: ObjectModel) -> np.ndarray:
    """Return the object-like regions of a depth map, which semantics have no part in.

    Args:
        depth: (H, W) float, positive, any unit. Without a street in it there are no objects.

    Returns:
        (H, W) uint16 ids, 0 = none.
    """
    # At full size the outlines would not be better, and the street is found as well in fewer pixels.
    height = min(depth.shape[0], REFERENCE_HEIGHT)
    size = (max(1, round(depth.shape[1] * height / depth.shape[0])), height)
    small = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    ground = fit_ground(small)
    if ground is None:
        return np.zeros(depth.shape, dtype=np.uint16)
    objects = object_regions(small, ground, model)
    if objects.shape != depth.shape:
        objects = cv2.resize(objects, depth.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return objects


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


def add_splitting_arguments(group: argparse._ActionsContainer) -> None:
    """Add the flags of `SplitSettings` other than threshold, least area and blur."""
    group.add_argument(
        "--dilation", type=int, default=3, help="reach in pixels when cut pixels are given back"
    )
    group.add_argument("--sigma", type=float, default=1.0, help="depth smoothing, pixels of a 512-row image")
    group.add_argument(
        "--proposals",
        choices=("classes", "things", "objects"),
        default="classes",
        help="split each thing class (sharp semantics), their union, or let depth propose (blurred ones)",
    )
    group.add_argument(
        "--min_thing_share", type=float, default=0.3, help="with objects: least share of thing pixels in one"
    )


def check_splitting(args: argparse.Namespace) -> None:
    """Refuse impossible values of `add_splitting_arguments`."""
    if args.sigma < 0:
        raise UserError(f"--sigma {args.sigma}: must not be negative")
    if args.dilation < 0:
        raise UserError(f"--dilation {args.dilation}: must not be negative")
    if not 0 < args.min_thing_share <= 1:
        raise UserError(f"--min_thing_share {args.min_thing_share}: must be above 0, at most 1")


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
