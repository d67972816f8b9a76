"""Run the pipeline end to end on toy streets: Stage 1, Stage 2, Stage 3, evaluation, report.

Finished steps are remembered, so a killed demo goes on where it was; --fresh starts over.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import COUNT, SEED, WORKERS
from cups.errors import UserError, run_main
from cups.io.locking import one_writer
from pseudo_labels.steps.flags import Settings, add_flags, flag, make_parser, take
from pseudo_labels.steps.folders import object_semantics
from pseudo_labels.steps.stage1 import ROOT
from studies.commands import check_streets, run_steps
from studies.demo_steps import DEPTH, demo_steps
from studies.toy_settings import FRAMES, OVERCLUSTERS, PROPOSALS


@dataclass(frozen=True)
class DemoSettings(Settings):
    """Demo."""

    output: Path = flag(ROOT / "runs" / "demo", "folder of the demo")
    num_workers: int = flag(2, "processes of the Stage-1 steps", allowed=WORKERS)
    seed: int = flag(0, "seed of clustering and training", allowed=SEED)
    depth: str = flag(
        DEPTH,
        "from one image, by a network that learned from video of another toy city (learned) or of this one "
        "first (trained); or from stereo",
        choices=tuple(PROPOSALS),
    )
    frames: tuple[int, int] = flag(
        FRAMES, "training and validation frames of the city", metavar=("TRAIN", "VAL"), allowed=COUNT
    )
    fresh: bool = flag(False, "remove an earlier demo in `output` first")


def prepare(output: Path, fresh: bool, frames: tuple[int, int]) -> None:
    """Refuse a folder that holds anything but a demo of as many frames; remove an earlier one if `fresh`."""
    if output.exists() and any(output.iterdir()):
        if not (output / "toy_streets").exists():
            raise UserError(f"{output}: holds something else; choose another `output`")
        if fresh:
            shutil.rmtree(output)
    check_streets(output / "toy_streets", frames, "add `fresh` to start over, or `frames` {} {} to go on")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and write its report."""
    parser = make_parser(__doc__)
    add_flags(parser, DemoSettings)
    parser.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="overrides of the training config")
    values = parser.parse_intermixed_args(argv)
    settings = take(DemoSettings, values)
    output = settings.output.resolve()
    with one_writer(output, "choose another `output`", beside=True):
        prepare(output, settings.fresh, settings.frames)
        steps = demo_steps(
            output, settings.num_workers, settings.seed, values.pairs, settings.depth, settings.frames
        )
        records = run_steps(steps, output / "steps")
        from studies.demo_report import write_report  # after parsing: --help is quick

        print(f"report: {write_report(output, object_semantics(OVERCLUSTERS), records)}")
    return 0


if __name__ == "__main__":
    run_main(main)
