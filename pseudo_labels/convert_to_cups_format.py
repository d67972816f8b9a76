"""Stage 1: semantic and instance maps to the flat training format of CUPS (Hahn et al., CVPR 2025).

One `{stem}_leftImg8bit_semantic.png` and `{stem}_leftImg8bit_instance.png` per image, the semantics uniform
inside each instance, and the class statistics from which training derives things and stuff.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cups.errors import UserError
from cups.io.checkpoint import write_file
from cups.io.file_names import ALL_PIXELS, INSIDE_INSTANCES, INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import atomic_write, read_ids, read_image, write_png
from cups.io.provenance import code_version
from cups.ops.components import majority_classes, unify_semantics
from cups.taxonomy import void_value
from pseudo_labels.inputs.labels import (
    DEFAULT_METHOD,
    INSTANCE_PREFIX,
    MAPPED_SEMANTICS,
    find_things,
    read_pair,
)
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.step import (
    Folder,
    Frame,
    is_complete,
    list_frames,
    make_parser,
    output_root,
    run_stage,
)

SCRIPT = "convert_to_cups_format"
STATISTICS_FILE = "pseudo_classes_split_1.pt"
FORMAT_FILE = "format.json"
FORMAT_VERSION = 1
LARGEST_UINT8_COUNT = 254


@dataclass(frozen=True)
class FlatFolder(Folder):
    """A folder without sub-folders: the training format."""

    def path(self, frame: Frame) -> Path:
        """File of a frame."""
        return self.directory / f"{frame.stem}{self.suffix}"


@dataclass(frozen=True)
class Statistics:
    """Pixels per pseudo-class, all and inside instances, and instances per pseudo-class; (K,) int64 each."""

    all_pixels: np.ndarray
    inside: np.ndarray
    instances: np.ndarray

    def __add__(self, other: Statistics) -> Statistics:
        """Sum of two sets of frames."""
        return Statistics(
            self.all_pixels + other.all_pixels, self.inside + other.inside, self.instances + other.instances
        )


def statistics_of(semantic: np.ndarray, instance: np.ndarray, num_classes: int) -> Statistics:
    """Count one frame; void is left out.

    Args:
        semantic: (H, W) uniform inside each instance.
        instance: (H, W), 0 = none.
    """
    # Slot `num_classes` gathers void and is cut off.
    size = max(num_classes + 1, int(np.iinfo(semantic.dtype).max) + 1)
    counted = np.bincount(semantic.ravel(), minlength=size)[:num_classes]
    place = np.flatnonzero(instance)
    ids, classes = instance.ravel()[place], semantic.ravel()[place]
    inside = np.bincount(classes, minlength=size)[:num_classes]
    voted = majority_classes(classes, ids, num_classes, num_classes)[np.flatnonzero(np.bincount(ids))]
    instances = np.bincount(voted, minlength=num_classes + 1)[:num_classes]
    return Statistics(counted, inside, instances)


def statistics_on_disk(folder: Path, num_classes: int, workers: int = 1) -> Statistics:
    """Sum over every frame in the folder, read as the integers they are.

    From the files rather than from what this run wrote: a resumed or sharded run writes only a part.
    """

    def count(path: Path) -> Statistics:
        instance = path.with_name(path.name[: -len(SEMANTIC_SUFFIX)] + INSTANCE_SUFFIX)
        return statistics_of(*read_pair(path, instance, num_classes), num_classes)

    files = sorted(folder.glob(f"*{SEMANTIC_SUFFIX}"))
    zeros = np.zeros(num_classes, dtype=np.int64)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        return sum(pool.map(count, files), Statistics(zeros, zeros, zeros))


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write the `.pt` file under upstream's keys, atomically."""
    content = {
        ALL_PIXELS: torch.from_numpy(statistics.all_pixels).float(),
        INSIDE_INSTANCES: torch.from_numpy(statistics.inside).float(),
        "distribution per object proposal": torch.from_numpy(statistics.instances).float(),
    }
    write_file(path, content)


@dataclass(frozen=True)
class Convert:
    """Picklable `process` of the step."""

    semantics: Folder
    instances: Folder
    semantic_output: FlatFolder
    instance_output: FlatFolder
    num_classes: int
    things: tuple[int, ...] | None

    def __call__(self, frame: Frame) -> None:
        """Write both files of one frame."""
        semantic, instance = read_pair(
            self.semantics.path(frame), self.instances.path(frame), self.num_classes
        )
        void = void_value(self.num_classes)
        unified, kept = unify_semantics(semantic, instance, self.num_classes, void, self.things)
        dtype = np.uint8 if self.num_classes <= LARGEST_UINT8_COUNT else np.uint16
        write_png(self.instance_output.path(frame), kept)
        write_png(self.semantic_output.path(frame), unified.astype(dtype))

    def show(self, frame: Frame) -> tuple[str, list[np.ndarray]]:
        """Return caption and pictures (image, semantics, instances) of one frame for the contact sheet."""
        from pseudo_labels.steps.pictures import label_pictures

        semantic = read_ids(self.semantic_output.path(frame))
        instance = read_ids(self.instance_output.path(frame))
        return frame.stem, label_pictures(read_image(frame.image), semantic, instance, self.num_classes)


def write_format(folder: Path, args: argparse.Namespace, num_classes: int) -> None:
    """Write `format.json`: what the files hold, for people and for checks."""
    files = sorted(folder.glob(f"*{SEMANTIC_SUFFIX}"))
    sizes = sorted({read_ids(path).shape for path in files[:1]})
    content = {
        "format_version": FORMAT_VERSION,
        "code_version": code_version(),
        "num_pseudo_classes": num_classes,
        "void": void_value(num_classes),
        "frames": len(files),
        "label_size": list(sizes[0]) if sizes else None,
        "semantic_subdir": args.semantic_subdir,
        "instance_subdir": args.instance_subdir,
        "statistics": STATISTICS_FILE,
    }
    text = json.dumps(content, indent=2) + "\n"
    atomic_write(folder / FORMAT_FILE, lambda temporary: temporary.write_text(text))


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = make_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--output_dir", type=Path, help="(default: cups_pseudo_labels/ under the root)")
    parser.add_argument(
        "--semantic_subdir",
        help="(default: pseudo_semantic_mapped_k300, or pseudo_semantic_raw_k{N} for N classes)",
    )
    parser.add_argument("--instance_subdir", default=INSTANCE_PREFIX + DEFAULT_METHOD, help="instance folder")
    classes = parser.add_mutually_exclusive_group(required=True)
    classes.add_argument("--trainid_input", action="store_true", help="semantics hold the 19 trainIds")
    classes.add_argument(
        "--num_semantic_classes", type=int, metavar="N", help="semantics hold N pseudo-classes"
    )
    things = parser.add_mutually_exclusive_group()
    things.add_argument("--thing_classes", type=int, nargs="+", help="classes that instances may take")
    things.add_argument("--split_json", type=Path, help="from classify_stuff_things.py (or the folder's)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    num_classes = 19 if args.trainid_input else args.num_semantic_classes
    if not 0 < num_classes < 65535:
        raise UserError(f"--num_semantic_classes {num_classes}: must be between 1 and 65534")
    if args.semantic_subdir is None:
        args.semantic_subdir = (
            MAPPED_SEMANTICS if args.trainid_input else f"pseudo_semantic_raw_k{num_classes}"
        )
    frames, root = list_frames(args), output_root(args)
    semantics = Folder(root, args.semantic_subdir, ".png")
    semantics.require(frames, "generate the semantics first, or check --semantic_subdir")
    instances = Folder(root, args.instance_subdir, ".png")
    instances.require(frames, "generate the instances first, or check --instance_subdir")
    target = args.output_dir or root / "cups_pseudo_labels"
    semantic_output = FlatFolder(target.parent, target.name, SEMANTIC_SUFFIX)
    instance_output = FlatFolder(target.parent, target.name, INSTANCE_SUFFIX)
    things = find_things(semantics, args.thing_classes, args.split_json)
    args.thing_classes = None if things is None else list(things)
    process = Convert(semantics, instances, semantic_output, instance_output, num_classes, things)
    inputs = (semantics.directory, instances.directory)
    outputs = (semantic_output, instance_output)
    run_stage(frames, process, outputs, args, script=SCRIPT, inputs=inputs, show=process.show)
    if is_complete(args, outputs):
        write_statistics(target / STATISTICS_FILE, statistics_on_disk(target, num_classes, args.num_workers))
        write_format(target, args, num_classes)
    return 0


if __name__ == "__main__":
    run_script(main)
