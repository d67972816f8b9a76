"""Stage 1: 27-class CAUSE semantics to the 19 trainIds; classes that the 19 do not have become void."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cups.io.png import read_ids, read_image, write_png
from cups.taxonomy import class27_to_train_id
from pseudo_labels.inputs.labels import read_semantic
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.step import Folder, Frame, list_frames, make_parser, output_root, run_stage

SCRIPT = "remap_cause27_to_trainid"


@dataclass(frozen=True)
class Remap:
    """Picklable `process` of the step."""

    semantics: Folder
    output: Folder

    def __call__(self, frame: Frame) -> None:
        """Write the trainIds of one frame."""
        semantic = read_semantic(self.semantics.path(frame), num_classes=27)
        write_png(self.output.path(frame), class27_to_train_id()[semantic])

    def show(self, frame: Frame) -> tuple[str, list[np.ndarray]]:
        """Return caption and pictures (image, semantics) of one frame for the contact sheet."""
        from pseudo_labels.steps.pictures import label_pictures

        semantic = read_ids(self.output.path(frame))
        return frame.stem, label_pictures(read_image(frame.image), semantic, None, 19)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--semantic_subdir", default="pseudo_semantic_cause27", help="27-class folder")
    parser.add_argument("--output_subdir", default="pseudo_semantic_mapped_cause27", help="trainId folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    frames, root = list_frames(args), output_root(args)
    semantics = Folder(root, args.semantic_subdir, ".png")
    semantics.require(frames, "run pseudo_labels/generate_semantic_pseudolabels_cause.py first")
    output = Folder(root, args.output_subdir, ".png")
    process = Remap(semantics, output)
    inputs = (semantics.directory,)
    run_stage(frames, process, [output], args, script=SCRIPT, inputs=inputs, show=process.show)
    return 0


if __name__ == "__main__":
    run_script(main)
