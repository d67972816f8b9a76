"""What a run may not change when it goes on: told before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from cups.builders.stage2 import starting_weights
from cups.config import changed_settings
from cups.config_keys import KEYS
from cups.errors import UserError
from cups.io.checkpoint import TEACHER_PREFIX, read_file, section
from cups.io.fingerprint import changed_weights
from cups.training.recipe import CUPS_STAGE2, CUPS_STAGE3, Recipe

KEPT = (
    "MODEL.BACKBONE_TYPE",
    "MODEL.CONFIG",
    "MODEL.FREEZE_BACKBONE",
    "TRAINING.OPTIMIZER",
    "SELF_TRAINING.TRAINABLE",
    "DATA.GROUND_TRUTH",
    "DATA.LABEL_FRACTION",
    "TRAINING.TRAINABLE",
)
"""Keys that say what is learnt from, which tensors there are, which are trained, and what the optimiser keeps
of each."""
STAGE3_KEPT = ("TRAINING.OPTIMIZER", "SELF_TRAINING.TRAINABLE")
"""Those that Stage 3 reads: its network is that of the checkpoint it began with."""


def refuse_another_run(config: CfgNode, directory: Path, checkpoint: Path, stage: Recipe) -> None:
    """Refuse to go on with a run of another stage, or with another network or optimiser than it began with.

    Args:
        config: of the resumed run.
        directory: its folder.
        checkpoint: what it goes on from; a missing one is left to what reads it next.
        stage: the published recipe of the stage.

    Raises:
        UserError: naming what the run has, what it was given now, and the fix.
    """
    if not checkpoint.exists():
        return
    content = read_file(checkpoint, mapped=True)  # its names alone are looked at
    found = stage_of(content)
    if found not in (None, stage.name):
        begin = f", and begin with this network by `checkpoint` {checkpoint}" if stage is CUPS_STAGE3 else ""
        raise UserError(
            f"{directory}: its run is of {found}, not of {stage.name}; choose another `run_name`{begin}"
        )
    step = content.get("global_step", 0) if isinstance(content, Mapping) else 0
    if step > config.TRAINING.STEPS:
        raise UserError(
            f"{directory}: its run has {step} steps already, more than {config.TRAINING.STEPS}; "
            "choose another `run_name`"
        )
    changed = changed_settings(config, directory / "config.yaml")
    for key in changed.keys() & (STAGE3_KEPT if stage is CUPS_STAGE3 else KEPT):
        before, now = changed[key]
        before = KEYS[key].default if before is None else before  # of a run that is older than the key
        if before != now:
            raise UserError(
                f"{key} is {now}, but the run in {directory} began with {before}; go on with {key} {before}, "
                "or choose another `run_name`"
            )


def refuse_another_start(config: CfgNode, directory: Path, checkpoint: Path) -> None:
    """Refuse to go on with a run that began with other weights than those of `MODEL.CHECKPOINT` now, if any.

    It would go on with its own, and its end would pass for that of the weights given.

    Args:
        config: of the resumed run.
        directory: its folder.
        checkpoint: what it goes on from; one of an earlier version does not tell its start.

    Raises:
        UserError: naming the weights and the fix.
    """
    if not checkpoint.exists() or config.MODEL.CHECKPOINT is None:
        return
    before = section(read_file(checkpoint, mapped=True), "hyper_parameters", "provenance")
    earlier = {"weights": [*before.get("weights", ()), *([before] if "checkpoint" in before else ())]}
    if changed_weights(earlier, starting_weights(config)):
        raise UserError(
            f"{config.MODEL.CHECKPOINT}: not the weights that the run in {directory} began with; give those, "
            "or choose another `run_name`"
        )


def stage_of(content: Any) -> str | None:
    """Return the name of the stage that wrote the content of a checkpoint; None where nothing tells."""
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        return None
    is_third = any(str(name).startswith(TEACHER_PREFIX) for name in state)
    return (CUPS_STAGE3 if is_third else CUPS_STAGE2).name
