"""The two training stages, each from a configuration to its last checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning.callbacks import Callback
from yacs.config import CfgNode

from cups.builders.resuming import refuse_another_run, refuse_another_start
from cups.builders.run_directory import run_directory
from cups.builders.stage2 import build_module, build_training_data, split_to_go_on_with
from cups.builders.stage3 import (
    build_round_checkpoints,
    build_self_training_module,
    build_unlabelled_data,
    self_training_config,
)
from cups.builders.trainer import TrainingData, fit, prepare_process, resumed_checkpoint
from cups.builders.validation import check_selection, label_free_measures, training_validation
from cups.data.fit import tell_fit
from cups.training.kept_checkpoints import damage_of, holds_checkpoints, step_checkpoint
from cups.training.recipe import CUPS_STAGE2, CUPS_STAGE3
from cups.training.run_folder import only_writer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resume:
    """Whether a run goes on from its newest checkpoint.

    Attributes:
        always: it does, and has to have one.
        if_possible: it does where it has any; damaged ones are no reason to start over them.
    """

    always: bool = False
    if_possible: bool = False

    def of(self, directory: Path) -> bool:
        """Return the answer for a run folder."""
        return self.always or (self.if_possible and holds_checkpoints(directory))


def run_stage2(config: CfgNode, resume: Resume) -> None:
    """Run Stage 2 in the folder that the configuration names."""
    prepare_process(config)
    directory = run_directory(config)
    with only_writer(directory):
        train_on_pseudo_labels(config, directory, resume.of(directory))


def run_stage3(config: CfgNode, resume: Resume) -> None:
    """Run Stage 3 in the folder that the configuration names, from `MODEL.CHECKPOINT`."""
    prepare_process(config)
    directory = run_directory(config, "self")
    with only_writer(directory):
        log.info("best round: %s", train_on_own_labels(config, directory, resume.of(directory)))


def run_both_stages(config: CfgNode, resume: Resume) -> None:
    """Run Stage 2 and Stage 3 in the folder that the configuration names."""
    prepare_process(config)
    directory = run_directory(config, "hybrid")
    with only_writer(directory):
        best = train_both_stages(config, directory, resume.of(directory / "stage2"))
    log.info("best round: %s", best)


def train_on_pseudo_labels(config: CfgNode, directory: Path, resume: bool) -> Path:
    """Stage 2: train on pseudo-labels in a run folder; return the last checkpoint."""
    resumed = resumed_checkpoint(directory) if resume else None
    if resumed is not None:
        refuse_another_run(config, directory, resumed, CUPS_STAGE2)
        refuse_another_start(config, directory, resumed)
    train = build_training_data(config, split_to_go_on_with(config, resumed))
    tell_fit(train.fit, train.typical_size, config.DATA.SCALE, tuple(config.DATA.CROP_RESOLUTION))
    validation = training_validation(config)
    callbacks: list[Callback] = []
    if validation is None:
        train, held_out = train.hold_out(config.VALIDATION.HELD_OUT_FRAMES)
        callbacks.append(label_free_measures(config, held_out, train.split.pseudo_classes))
    log.info(
        "%d training frames, %s; %d thing and %d stuff pseudo-classes",
        len(train), _validated(validation), len(train.split.things), len(train.split.stuffs),
    )  # fmt: skip
    module = build_module(config, train)
    return fit(module, TrainingData(train, validation, config), config, directory, resume, callbacks)


def _validated(validation: Sized | None) -> str:
    return "no validation frames" if validation is None else f"{len(validation)} validation frames"


def train_on_own_labels(
    config: CfgNode, directory: Path, resume: bool, checkpoint: Path | None = None
) -> Path:
    """Stage 3: self-training from a checkpoint of Stage 2; return the best round's checkpoint.

    Args:
        config: the whole configuration; its section SELF_TRAINING holds.
        directory: run folder.
        resume: whether to go on from the folder's `last.ckpt`.
        checkpoint: network of Stage 2, instead of `MODEL.CHECKPOINT`.
    """
    config = self_training_config(config, checkpoint)
    if resume:
        resumed = resumed_checkpoint(directory)
        refuse_another_run(config, directory, resumed, CUPS_STAGE3)
        if checkpoint is None:
            refuse_another_start(config, directory, resumed)
    train, held_out = build_unlabelled_data(config)
    tell_fit(train.fit, train.typical_size, config.DATA.SCALE, tuple(config.DATA.CROP_RESOLUTION))
    validation = training_validation(config)
    check_selection(config, validation)
    module = build_self_training_module(config, train.fit)
    log.info(
        "%d training images, %d held out, %s; %d rounds of %d steps",
        len(train), len(held_out), _validated(validation),
        module.schedule.rounds, module.schedule.round_steps,
    )  # fmt: skip
    callbacks: list[Callback] = [build_round_checkpoints(config, module, held_out, directory)]
    if validation is None:
        callbacks.append(label_free_measures(config, held_out, module.split.pseudo_classes))
    fit(module, TrainingData(train, validation, config), config, directory, resume, callbacks, CUPS_STAGE3)
    return directory / "checkpoints" / "best.ckpt"


def train_both_stages(config: CfgNode, directory: Path, resume: bool) -> Path:
    """Stage 2 in `stage2/` of a run folder, then Stage 3 in `stage3/`; return the best round's checkpoint.

    With `resume`, the run goes on at the step where it was interrupted, in either stage.
    """
    first, second = directory / "stage2", directory / "stage3"
    network = step_checkpoint(first, config.TRAINING.STEPS)
    # What Stage 3 lacks is told before Stage 2 has trained for hours.
    build_unlabelled_data(self_training_config(config, network))
    if config.SELF_TRAINING.SELECT == "val":
        check_selection(config, training_validation(config))
    if resume and damage_of(network) is None:
        log.info("Stage 2 is finished: %s", network)
    else:
        train_on_pseudo_labels(config, first, resume)
    return train_on_own_labels(config, second, resume and holds_checkpoints(second), network)
