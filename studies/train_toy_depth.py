#!/usr/bin/env python3
"""Train the depth network that the demo uses, from video of a toy city that no demo and no report shows.

About two hours on one core, without labels and without stereo. Finished steps are remembered.
Paths count from the repository: the provenance that is committed with the weights names no other place.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cups.errors import run_main
from cups.io.provenance import FILE_NAME
from pseudo_labels.networks.depth_network import DEPTH, ENCODER, SETTINGS
from studies.commands import LONG_DEPTH_TRAINING, ROOT, TOY_DEPTH_NETWORK, Step, run_steps
from studies.demo import TOY_DEPTH

CITY_SEED, FRAMES = 100, 720
KEPT = (ENCODER, DEPTH, SETTINGS, FILE_NAME)
"""What reading depth needs: not the pose network, not the checkpoints of the training."""


def steps(output: Path) -> list[Step]:
    """Return the steps: render the city, train."""
    data = str(output / "toy_streets")
    city = ("--output", data, "--seed", str(CITY_SEED), "--train_frames", str(FRAMES))
    train = ("--cityscapes_root", data, "--split", "train", "--output_root", str(output))
    network = ("--checkpoint_dir", str(output / "spidepth"), "--seed", "0", "--num_workers", "0")
    return [
        Step("toy streets", "cups.data.toy_streets", city),
        Step(
            "depth network",
            "pseudo_labels/train_spidepth.py",
            (*train, *network, *TOY_DEPTH_NETWORK, *LONG_DEPTH_TRAINING),
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Train and copy the weights."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/toy_depth"), help="folder of the training")
    parser.add_argument("--weights", type=Path, default=TOY_DEPTH.relative_to(ROOT), help="folder to write")
    args = parser.parse_args(argv)
    os.chdir(ROOT)
    run_steps(steps(args.output), args.output / "steps", "toy depth")
    args.weights.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copyfile(args.output / "spidepth" / name, args.weights / name)
    print(f"weights: {args.weights}")
    return 0


if __name__ == "__main__":
    run_main(main)
