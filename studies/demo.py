#!/usr/bin/env python3
"""Run the pipeline end to end on toy streets: Stage 1, Stage 2, Stage 3, evaluation, report.

Finished steps are remembered, so a killed demo goes on where it was; --fresh starts over.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from cups.errors import UserError, run_main
from studies.commands import ROOT, SHORT_DEPTH_TRAINING, SMALL_HEADS, TOY_DEPTH_NETWORK, Step, run_steps
from studies.demo_report import write_report

CONFIG = ROOT / "configs" / "demo_toy.yaml"
CLUSTERS = 120
SEMANTICS = f"pseudo_semantic_raw_k{CLUSTERS}"
CLASSES = ("--num_semantic_classes", str(CLUSTERS))
LABELS = "cups_pseudo_labels"
LOW_STEP, BLUR = 0.03, ("--depth_blur", "0.03")
BLURRED = ("--grad_threshold", str(LOW_STEP), *BLUR)
"""Flags for the outlines in a network's depth: low steps, spread over some percent of the height."""
OUTLINES = {"disparity": (), "learned": BLURRED, "trained": BLURRED}
"""Flags that find objects in each kind of depth."""
PROPOSALS = {
    "disparity": ("--proposals", "objects"),
    "learned": ("--proposals", "objects", *BLURRED),
    "trained": ("--proposals", "things"),
}
"""Flags that turn each kind of depth into instances: what a network learns in a demo's minutes is too blurred
to propose objects alone."""
DEPTH = "learned"
"""The kind of depth unless told otherwise: like a user's, it needs the single image alone."""
TOY_DEPTH = ROOT / "refs" / "spidepth" / "toy"
"""Weights of the depth network that learned from video of another toy city (`studies/train_toy_depth.py`)."""


def run_flags(data: Path, output: Path, run_name: str, config: Path) -> tuple[str, ...]:
    """Return the flags of a training into `output/run_name`; killed, it resumes."""
    flags = ("--experiment_config_file", str(config), "--disable_wandb", "--resume_if_possible")
    return (*flags, "--data_root", str(data), "--log_path", str(output), "--run_name", run_name)


def training_step(
    name: str,
    data: Path,
    labels: Path,
    output: Path,
    run_name: str,
    pairs: Sequence[str],
    config: Path = CONFIG,
) -> Step:
    """Return the step that trains Stage 2 into `output/run_name`."""
    flags = (*run_flags(data, output, run_name, config), "--pseudo_root", str(labels))
    return Step(name, "train.py", (*flags, *pairs))


def self_training_step(
    name: str,
    data: Path,
    checkpoint: Path,
    output: Path,
    run_name: str,
    pairs: Sequence[str],
    config: Path = CONFIG,
) -> Step:
    """Return the step that trains Stage 3 from a checkpoint of Stage 2 into `output/run_name`."""
    flags = (*run_flags(data, output, run_name, config), "--checkpoint", str(checkpoint))
    return Step(name, "train_self.py", (*flags, *pairs))


def checkpoint_of(output: Path, run_name: str, name: str = "last") -> Path:
    """Return a checkpoint of a run: `last`, or of self-training `best` or `round_1`, ..."""
    return output / run_name / "checkpoints" / f"{name}.ckpt"


def validation_step(
    name: str,
    data: Path,
    output: Path,
    run_name: str,
    pairs: Sequence[str],
    config: Path = CONFIG,
    checkpoint: Path | None = None,
) -> Step:
    """Return the step that evaluates a checkpoint (the last of the run) into `output/{run_name}_val`."""
    checkpoint = checkpoint or checkpoint_of(output, run_name)
    arguments = ("--experiment_config_file", str(config), "--visualize_results")
    arguments += ("--data_root", str(data), "--checkpoint", str(checkpoint), "--run_name", run_name)
    return Step(name, "val.py", (*arguments, "--output_dir", str(output / f"{run_name}_val"), *pairs))


def depth_steps(output: Path, root: Sequence[str], depth: str, seed: int) -> list[Step]:
    """Return the steps that write depth of one of the kinds of `PROPOSALS`."""
    script, everything = "pseudo_labels/generate_depth_spidepth.py", (*root, "--split", "all")
    if depth == "disparity":
        return [Step("depth", script, (*everything, "--source", "disparity"))]
    folder = TOY_DEPTH if depth == "learned" else output / "spidepth"
    network = ("--checkpoint_dir", str(folder))
    steps = [Step("depth", script, (*everything, *network, "--post_process"))]
    if depth == "trained":
        settings = (*TOY_DEPTH_NETWORK, *SHORT_DEPTH_TRAINING)
        train = (*root, "--split", "train", *network, "--seed", str(seed), *settings)
        steps.insert(0, Step("depth network", "pseudo_labels/train_spidepth.py", train))
    return steps


def demo_steps(
    output: Path, workers: int, seed: int, extra: Sequence[str] = (), depth: str = DEPTH
) -> list[Step]:
    """Return the steps of the demo, in order. `extra`: `KEY VALUE` pairs for training."""
    data, labels = output / "toy_streets", output / LABELS
    root = ("--cityscapes_root", str(data), "--num_workers", str(workers))
    everything, train, val = ((*root, "--split", split) for split in ("all", "train", "val"))
    heads = ("--backbone", "texton", "--checkpoint_dir", str(output / "cause_heads"))
    seeded = (*heads, "--seed", str(seed))
    semantics = ("--semantic_subdir", SEMANTICS)
    stage1 = "pseudo_labels"
    pairs = ("SYSTEM.SEED", str(seed), *extra)
    return [
        Step("toy streets", "cups.data.toy_streets", ("--output", str(data), "--show", "6")),
        *depth_steps(output, root, depth, seed),
        Step("CAUSE heads", f"{stage1}/train_cause.py", (*train, *seeded, *SMALL_HEADS)),
        Step("CAUSE semantics", f"{stage1}/generate_semantic_pseudolabels_cause.py", (*everything, *heads)),
        Step(
            "overclusters",
            f"{stage1}/generate_overclustered_semantics.py",
            (*everything, *seeded, "--k", str(CLUSTERS), "--raw", "--features", "context", "--regions"),
        ),
        Step(
            "things and stuff",
            f"{stage1}/classify_stuff_things.py",
            (*train, *semantics, *OUTLINES[depth]),
        ),
        Step(
            "instances",
            f"{stage1}/generate_depth_guided_instances.py",
            (*everything, *semantics, *PROPOSALS[depth], "--min_area", "60", "--show", "6"),
        ),
        Step(
            "CUPS format",
            f"{stage1}/convert_to_cups_format.py",
            (*train, *semantics, *CLASSES, "--output_dir", str(labels), "--show", "6"),
        ),
        Step(
            "pseudo-labels evaluated",
            f"{stage1}/evaluation/evaluate_pseudolabels.py",
            (*val, *semantics, *CLASSES, "--results", str(output / "pseudo_labels_val")),
        ),
        training_step("Stage 2", data, labels, output, "stage2", pairs),
        validation_step("Stage 2 evaluated", data, output, "stage2", pairs),
        self_training_step("Stage 3", data, checkpoint_of(output, "stage2"), output, "stage3", pairs),
        validation_step(
            "Stage 3 evaluated",
            data,
            output,
            "stage3",
            pairs,
            checkpoint=checkpoint_of(output, "stage3", "best"),
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "demo", help="folder of the demo")
    parser.add_argument("--num_workers", type=int, default=2, help="processes of the Stage-1 steps")
    parser.add_argument("--seed", type=int, default=0, help="seed of clustering and training")
    parser.add_argument(
        "--depth",
        choices=tuple(PROPOSALS),
        default=DEPTH,
        help="from one image, by a network that learned from video of another toy city (learned) or of this "
        "one first (trained); or from stereo",
    )
    parser.add_argument("--fresh", action="store_true", help="remove an earlier demo in --output first")
    parser.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="overrides of the training config")
    args = parser.parse_intermixed_args(argv)
    output = args.output.resolve()
    if output.exists() and any(output.iterdir()):
        if not (output / "toy_streets").exists():
            raise UserError(f"{output}: holds something else; choose another --output")
        if args.fresh:
            shutil.rmtree(output)
    records = run_steps(
        demo_steps(output, args.num_workers, args.seed, args.pairs, args.depth), output / "steps"
    )
    report = write_report(output, SEMANTICS, records)
    print(f"report: {report}")
    return 0


if __name__ == "__main__":
    run_main(main)
