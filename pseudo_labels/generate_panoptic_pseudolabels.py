"""Stage 1: semantic and instance maps to COCO panoptic PNG files and one JSON per split."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import UserError
from cups.ops.components import unify_semantics
from cups.ops.png import atomic_write, read_image, write_png
from cups.taxonomy import class_set
from pseudo_labels.executor import run_script
from pseudo_labels.labels import (
    DEFAULT_METHOD,
    INSTANCE_PREFIX,
    MAPPED_SEMANTICS,
    read_pair,
    thing_classes,
    void_value,
)
from pseudo_labels.stage import (
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
PANOPTIC_PREFIX = "pseudo_panoptic_"
SEGMENT_FACTOR = 1000
"""Segment id = (class + 1) * 1000 + number of the object in its class; number 0 is stuff, id 0 is void. A PNG
therefore tells its classes by itself, and the JSON can be rebuilt from the files of any number of shards."""


def merge(semantic: np.ndarray, instance: np.ndarray, things: Sequence[int], num_classes: int) -> np.ndarray:
    """Merge a semantic and an instance map: (H, W) int64 segment ids, see `SEGMENT_FACTOR`.

    Each instance takes the majority class of its pixels, of its thing pixels where it has any; one of stuff
    alone joins that stuff. Pixels of a thing class outside every instance are void: what they belong to is
    not known.

    Args:
        semantic: (H, W) classes 0..num_classes-1, void elsewhere.
        instance: (H, W), 0 = none.

    Raises:
        ValueError: 1000 or more objects of one class.
    """
    void = void_value(num_classes)
    semantic, instance = unify_semantics(semantic, instance, num_classes, void, things)
    is_thing = np.zeros(65536, dtype=bool)
    is_thing[list(things)] = True
    thing_pixel = is_thing[semantic]
    segments = (semantic.astype(np.int64) + 1) * SEGMENT_FACTOR
    segments[(semantic == void) | (thing_pixel & (instance == 0))] = 0
    numbers = _numbers_in_class(semantic, np.where(thing_pixel, instance, 0))
    return segments + numbers


def _numbers_in_class(semantic: np.ndarray, instance: np.ndarray) -> np.ndarray:
    """Number the objects of each class 1, 2, ... in the order of their ids; (H, W) int64, 0 = none."""
    ids, first = np.unique(instance, return_index=True)
    classes = semantic.ravel()[first].astype(np.int64)
    numbers = np.zeros(int(ids[-1]) + 1, dtype=np.int64)
    count: dict[int, int] = {}
    for index, category in zip(ids.tolist(), classes.tolist(), strict=True):
        if index:
            numbers[index] = count[category] = count.get(category, 0) + 1
    if max(count.values(), default=0) >= SEGMENT_FACTOR:
        raise ValueError(f"{max(count.values())} objects of one class in an image, at most 999 fit")
    return numbers[instance]


def to_rgb(segments: np.ndarray) -> np.ndarray:
    """Encode segment ids as COCO does: (H, W) -> (H, W, 3) uint8, id = R + 256 G + 65536 B."""
    return np.stack([segments >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def from_rgb(pixels: np.ndarray) -> np.ndarray:
    """Decode COCO panoptic pixels: (H, W, 3) uint8 RGB -> (H, W) int64 segment ids."""
    parts = pixels.astype(np.int64)
    return parts[..., 0] + (parts[..., 1] << 8) + (parts[..., 2] << 16)


def describe_segments(segments: np.ndarray) -> list[dict[str, Any]]:
    """Return COCO `segments_info` of a segment map; `bbox` is (x, y, width, height)."""
    ids, inverse = np.unique(segments, return_inverse=True)
    areas = np.bincount(inverse.ravel())
    low, high = _extents(inverse.reshape(segments.shape), len(ids))
    return [
        {
            "id": int(segment),
            "category_id": int(segment) // SEGMENT_FACTOR - 1,
            "area": int(areas[i]),
            "bbox": [int(v) for v in (low[i, 1], low[i, 0], *(high[i] - low[i] + 1)[::-1])],
            "iscrowd": 0,
        }
        for i, segment in enumerate(ids)
        if segment != 0
    ]


def _extents(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest (row, column) of each label 0..count-1: two (count, 2) int64."""
    height, width = labels.shape
    low, high = np.empty((count, 2), np.int64), np.empty((count, 2), np.int64)
    for axis, length in ((0, height), (1, width)):
        coordinate = np.arange(length).reshape(-1, 1) if axis == 0 else np.arange(length)
        present = np.zeros((count, length), dtype=bool)
        present[labels, np.broadcast_to(coordinate, labels.shape)] = True
        low[:, axis] = present.argmax(axis=1)
        high[:, axis] = length - 1 - present[:, ::-1].argmax(axis=1)
    return low, high


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
        from pseudo_labels.pictures import fit, panoptic_picture

        image = read_image(frame.image)
        segments = from_rgb(read_image(self.output.path(frame)))
        category = segments // SEGMENT_FACTOR - 1
        category[segments == 0] = void_value(self.num_classes)
        picture = panoptic_picture(category, segments % SEGMENT_FACTOR, self.num_classes)
        return frame.stem, [image, fit(picture, image)]


def write_json(
    output: Folder, frames: Sequence[Frame], split: str, things: Sequence[int], num_classes: int
) -> Path:
    """Write COCO panoptic JSON for the frames of a split whose PNG exists; returns its path."""
    names = class_set(19).names if num_classes == 19 else [f"cluster {i}" for i in range(num_classes)]
    images, annotations = [], []
    for frame in frames:
        if not output.exists(frame):
            continue
        segments = from_rgb(read_image(output.path(frame)))
        file_name = str(output.path(frame).relative_to(output.directory))
        height, width = segments.shape
        images.append({"id": frame.stem, "file_name": frame.image.name, "height": height, "width": width})
        info = describe_segments(segments)
        annotations.append({"image_id": frame.stem, "file_name": file_name, "segments_info": info})
    categories = [
        {"id": i, "name": name, "supercategory": name, "isthing": int(i in set(things))}
        for i, name in enumerate(names)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = output.directory / f"{split}.json"
    atomic_write(path, lambda temporary: temporary.write_text(json.dumps(content)))
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
