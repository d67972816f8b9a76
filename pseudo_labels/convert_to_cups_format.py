"""Stage 1: semantic and instance maps to the flat training format of CUPS (Hahn et al., CVPR 2025).

One `{stem}_leftImg8bit_semantic.png` and `{stem}_leftImg8bit_instance.png` per image, the semantics uniform
inside each instance, and the class statistics from which training derives things and stuff.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.files import atomic_write
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import code_version
from cups.ops.components import unify_semantics
from cups.taxonomy import void_value
from pseudo_labels.algorithms.cups_format import (
    FORMAT_FILE,
    FORMAT_VERSION,
    LARGEST_UINT8_COUNT,
    STATISTICS_FILE,
    FlatFolder,
    statistics_on_disk,
    write_statistics,
)
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
