#!/usr/bin/env python3
"""Run the pipeline end to end on toy streets: Stage 1, Stage 2, evaluation, report.

Finished steps are remembered, so a killed demo goes on where it was; --fresh starts over.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_report import write_report

from cups.errors import UserError, run_main
from cups.reporting import StepRecord, read_step, run_measured

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "demo_toy.yaml"
CLUSTERS = 40
SEMANTICS = f"pseudo_semantic_raw_k{CLUSTERS}"
LABELS = "cups_pseudo_labels"


@dataclass(frozen=True)
class Step:
    """One command of the demo: the name in the report, the script (or `-m module`), its arguments."""

    name: str
    script: str
    arguments: tuple[str, ...]

    def command(self) -> list[str]:
        """Return the command line."""
        start = ["-m", self.script] if not self.script.endswith(".py") else [str(ROOT / self.script)]
        return [sys.executable, *start, *self.arguments]


def demo_steps(output: Path, workers: int, seed: int, extra: Sequence[str] = ()) -> list[Step]:
    """Return the steps of the demo, in order. `extra`: `KEY VALUE` pairs for training."""
    data = output / "toy_streets"
    common = ("--cityscapes_root", str(data), "--split", "all", "--num_workers", str(workers))
    heads = str(output / "cause_heads")
    cause = ("--backbone", "texton", "--checkpoint_dir", heads)
    semantics = ("--semantic_subdir", SEMANTICS)
    run = ("--experiment_config_file", str(CONFIG), "--disable_wandb", "--data_root", str(data))
    pairs = ("SYSTEM.SEED", str(seed), *extra)
    stage2 = output / "stage2"
    return [
        Step("toy streets", "cups.data.toy_streets", ("--output", str(data))),
        Step("depth", "pseudo_labels/generate_depth_spidepth.py", (*common, "--source", "disparity")),
        Step(
            "CAUSE heads",
            "pseudo_labels/train_cause.py",
            ("--cityscapes_root", str(data), "--split", "train", *cause, "--seed", str(seed)),
        ),
        Step("CAUSE semantics", "pseudo_labels/generate_semantic_pseudolabels_cause.py", (*common, *cause)),
        Step(
            "overclustering",
            "pseudo_labels/generate_overclustered_semantics.py",
            (*common, "--k", str(CLUSTERS), "--raw", "--seed", str(seed)),
        ),
        Step(
            "things and stuff",
            "pseudo_labels/classify_stuff_things.py",
            ("--cityscapes_root", str(data), "--split", "train", *semantics),
        ),
        Step(
            "instances",
            "pseudo_labels/generate_depth_guided_instances.py",
            (*common, *semantics, "--min_area", "60", "--show", "6"),
        ),
        Step(
            "CUPS format",
            "pseudo_labels/convert_to_cups_format.py",
            ("--cityscapes_root", str(data), "--split", "train", *semantics)
            + ("--num_semantic_classes", str(CLUSTERS), "--output_dir", str(output / LABELS), "--show", "6"),
        ),
        Step(
            "pseudo-labels evaluated",
            "pseudo_labels/evaluation/evaluate_pseudolabels.py",
            ("--cityscapes_root", str(data), "--split", "val", *semantics)
            + ("--num_semantic_classes", str(CLUSTERS), "--results", str(output / "pseudo_labels_val")),
        ),
        Step(
            "Stage 2",
            "train.py",
            (*run, "--pseudo_root", str(output / LABELS), "--log_path", str(output), "--run_name", "stage2")
            + ("--resume_if_possible", *pairs),
        ),
        Step(
            "Stage 2 evaluated",
            "val.py",
            (*run, "--checkpoint", str(stage2 / "checkpoints" / "last.ckpt"), "--visualize_results")
            + ("--output_dir", str(output / "stage2_val"), *pairs),
        ),
    ]


def run_steps(steps: Sequence[Step], folder: Path) -> list[StepRecord]:
    """Run the steps whose record is not in `folder` yet; each is recorded as soon as it is done."""
    records = []
    for number, step in enumerate(steps, start=1):
        path = folder / f"{number:02d}.json"
        title = f"[demo {number}/{len(steps)}] {step.name}"
        if path.is_file() and (record := read_step(path)).command == tuple(step.command()):
            print(f"{title}: done before", flush=True)
        else:
            print(title, flush=True)
            record = run_measured(step.command(), step.name)
            record.write_json(path)
        records.append(record)
    return records


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "demo", help="folder of the demo")
    parser.add_argument("--num_workers", type=int, default=2, help="processes of the Stage-1 steps")
    parser.add_argument("--seed", type=int, default=0, help="seed of clustering and training")
    parser.add_argument("--fresh", action="store_true", help="remove an earlier demo in --output first")
    parser.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="overrides of the training config")
    args = parser.parse_intermixed_args(argv)
    output = args.output.resolve()
    if output.exists() and any(output.iterdir()):
        if not (output / "toy_streets").exists():
            raise UserError(f"{output}: holds something else; choose another --output")
        if args.fresh:
            shutil.rmtree(output)
    records = run_steps(demo_steps(output, args.num_workers, args.seed, args.pairs), output / "steps")
    report = write_report(output, SEMANTICS, records)
    print(f"report: {report}")
    return 0


if __name__ == "__main__":
    run_main(main)
