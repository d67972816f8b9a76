#!/usr/bin/env python3
"""Convert ground truth to the CUPS training format: the oracle that bounds what Stage 2 can reach.

For checking the machinery only; the folder's provenance says that it uses ground truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cups.data.cityscapes import list_ground_truth_frames, read_panoptic_target
from cups.errors import run_main
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import write_png
from cups.io.provenance import write_provenance
from cups.taxonomy import class_set
from pseudo_labels.algorithms.cups_format import STATISTICS_FILE, statistics_on_disk, write_statistics


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--cityscapes_root", type=Path, required=True, help="folder with leftImg8bit and gtFine"
    )
    parser.add_argument("--split", default="train", help="split to convert")
    parser.add_argument("--num_classes", type=int, choices=(19, 27), default=19, help="classes of the labels")
    parser.add_argument("--output_dir", type=Path, required=True, help="flat folder of the labels")
    args = parser.parse_args(argv)

    classes = class_set(args.num_classes)
    frames = list_ground_truth_frames(args.cityscapes_root, args.split)
    write_provenance(
        args.output_dir,
        script="ground_truth_to_cups",
        arguments=vars(args),
        inputs=[args.cityscapes_root / "gtFine"],
        uses_ground_truth=True,
    )
    for frame in tqdm(frames, desc="convert", unit="img"):
        target = read_panoptic_target(frame.label_ids, frame.instance_ids, classes)
        write_png(args.output_dir / f"{frame.stem}{SEMANTIC_SUFFIX}", target[..., 0].astype(np.uint8))
        write_png(args.output_dir / f"{frame.stem}{INSTANCE_SUFFIX}", target[..., 1].astype(np.uint16))
    write_statistics(args.output_dir / STATISTICS_FILE, statistics_on_disk(args.output_dir, args.num_classes))
    return 0


if __name__ == "__main__":
    run_main(main)
