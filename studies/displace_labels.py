#!/usr/bin/env python3
"""Displace pseudo-labels as a loader does that scales images but crops both: for the ablation of alignment.

A label file of the image's size is cut to the window that lies over the scaled image when both are cropped
around their centres. It then has training size, where our loader leaves labels alone: training sees what
that other loader would have shown, and the fault itself needs no place in the library.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cups.errors import UserError, run_main
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import read_ids, write_png
from cups.io.provenance import write_provenance
from cups.ops.resize import center_crop_or_pad, scaled_size


def displaced(labels: np.ndarray, scale: float) -> np.ndarray:
    """Return the window of unscaled labels that covers an image scaled by `scale` (0-1).

    labels: (H, W) ids at the size of the image -> (round(scale H), round(scale W)) of the same type.
    """
    size = scaled_size((labels.shape[0], labels.shape[1]), scale)
    return center_crop_or_pad(torch.from_numpy(labels), size, 0).numpy()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--pseudo_root", type=Path, required=True, help="labels in the CUPS format, of the images' size"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the displaced labels")
    parser.add_argument("--scale", type=float, required=True, help="DATA.SCALE of the training, below 1")
    args = parser.parse_args(argv)
    if not 0 < args.scale < 1:
        raise UserError(f"--scale {args.scale}: must lie between 0 and 1; at 1 nothing is displaced")
    files = sorted(
        path for suffix in (SEMANTIC_SUFFIX, INSTANCE_SUFFIX) for path in args.pseudo_root.glob(f"*{suffix}")
    )
    if not files:
        raise UserError(f"{args.pseudo_root}: holds no *{SEMANTIC_SUFFIX}; run convert_to_cups_format.py")
    write_provenance(
        args.output_dir, script="displace_labels", arguments=vars(args), inputs=[args.pseudo_root]
    )
    for path in tqdm(files, desc="displace", unit="file"):
        write_png(args.output_dir / path.name, displaced(read_ids(path), args.scale))
    for statistics in args.pseudo_root.glob("*.pt"):
        shutil.copy(statistics, args.output_dir)
    return 0


if __name__ == "__main__":
    run_main(main)
