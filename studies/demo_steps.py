"""The demo as commands: all stages on toy streets, small enough for minutes on two processor cores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pseudo_labels.settings.labels import OBJECT_CLASSES
from pseudo_labels.steps.stage1 import Command, Stage1Options
from studies.commands import toy_streets
from studies.toy_settings import (
    CLUSTERS,
    FRAMES,
    LABELS,
    PROPOSALS,
    REGIONS,
    SHORT_DEPTH_TRAINING,
    SMALL_HEADS,
    TOY_DEPTH,
    TOY_DEPTH_NETWORK,
)
from studies.training_commands import TrainingCommands

DEPTH = "learned"
"""The kind of depth unless told otherwise: like a user's, it needs the single image alone."""


def toy_stage1(output: Path, workers: int, seed: int, depth: str) -> Stage1Options:
    """Return Stage 1 of the demo, with depth of one of the kinds of `PROPOSALS`."""
    networks = {"disparity": None, "learned": TOY_DEPTH, "trained": output / "spidepth"}
    show = ("--show", "6")
    return Stage1Options(
        output / "toy_streets",
        backbone="texton",
        heads=output / "cause_heads",
        seed=seed,
        num_workers=workers,
        split="all",
        label_split="train",
        k=CLUSTERS,
        train_heads=True,
        source="disparity" if depth == "disparity" else "spidepth",
        network=networks[depth],
        train_depth=depth == "trained",
        objects=OBJECT_CLASSES,
        labels=output / LABELS,
        further={
            "train_cause": SMALL_HEADS,
            "train_spidepth": (*TOY_DEPTH_NETWORK, *SHORT_DEPTH_TRAINING),
            "generate_depth_spidepth": () if depth == "disparity" else ("--post_process",),
            "generate_overclustered_semantics": REGIONS,
            "generate_depth_guided_instances": (*PROPOSALS[depth], *show),
            "generate_object_classes": show,
            "convert_to_cups_format": show,
        },
    )


def demo_steps(
    output: Path,
    workers: int,
    seed: int,
    extra: Sequence[str] = (),
    depth: str = DEPTH,
    frames: tuple[int, int] = FRAMES,
) -> list[Command]:
    """Return the commands of the demo, in order.

    Args:
        extra: `KEY VALUE` pairs for training.
        frames: of training and validation.
    """
    stage1 = toy_stage1(output, workers, seed, depth)
    training = TrainingCommands(stage1.root, output, ("SYSTEM.SEED", str(seed), *extra))
    scores = output / "pseudo_labels_val"
    return [
        toy_streets(stage1.root, "--show", "6", frames=frames),
        *stage1.commands(),
        stage1.panoptic_scores("pseudo-labels evaluated", stage1.label_semantics, None, scores),
        training.stage2("Stage 2", output / LABELS, "stage2"),
        training.evaluation("Stage 2 evaluated", "stage2"),
        training.stage3("Stage 3", training.checkpoint("stage2"), "stage3"),
        training.evaluation("Stage 3 evaluated", "stage3", training.checkpoint("stage3", "best")),
    ]
