"""Train the depth network that the demo uses, from video of a toy city that no demo and no report shows.

About two hours on one core, without labels and without stereo. Finished steps are remembered.
Paths count from the repository: the provenance that is committed with the weights names no other place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.errors import run_main
from pseudo_labels.steps.flags import Settings, flag, parse
from pseudo_labels.steps.stage1 import ROOT, Command, Stage1Steps
from studies.commands import run_steps, toy_streets
from studies.toy_settings import LONG_DEPTH_TRAINING, TOY_DEPTH, TOY_DEPTH_NETWORK

CITY_SEED, FRAMES = 100, 720


@dataclass(frozen=True)
class ToyDepthSettings(Settings):
    """Folders."""

    output: Path = flag(Path("runs/toy_depth"), "folder of the training")
    weights: Path = flag(TOY_DEPTH.relative_to(ROOT), "folder to write")


def steps(output: Path) -> list[Command]:
    """Return the commands: render the city, train."""
    data = output / "toy_streets"
    stage1 = Stage1Steps(data, output, seed=0, num_workers=0)
    return [
        toy_streets(data, "--seed", str(CITY_SEED), frames=(FRAMES, 20)),
        stage1.depth_network(output / "spidepth", *TOY_DEPTH_NETWORK, *LONG_DEPTH_TRAINING),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Train and copy the weights."""
    (settings,) = parse(__doc__, argv, ToyDepthSettings)
    from cups.io.provenance import FILE_NAME  # after parsing: --help is quick
    from pseudo_labels.networks.depth_network import DEPTH, ENCODER
    from pseudo_labels.networks.depth_network import SETTINGS as NETWORK

    os.chdir(ROOT)
    run_steps(steps(settings.output), settings.output / "steps", "toy depth")
    settings.weights.mkdir(parents=True, exist_ok=True)
    # What reading depth needs: not the pose network, not the checkpoints of the training.
    for name in (ENCODER, DEPTH, NETWORK, FILE_NAME):
        shutil.copyfile(settings.output / "spidepth" / name, settings.weights / name)
    print(f"weights: {settings.weights}")
    return 0


if __name__ == "__main__":
    run_main(main)
