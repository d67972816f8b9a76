"""From a configuration and a Stage-2 checkpoint to the objects of Stage 3."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from cups.augmentation import BatchAugmentation, RandomCrop
from cups.builders.evaluation import build_metric, build_validation_data
from cups.builders.inference import views_of
from cups.builders.stage2 import batch_augmentation, optimizer_settings
from cups.builders.trainer import validation_loader
from cups.config import flatten, plain
from cups.config_keys import KEYS, get
from cups.configuration.unread import STAGE3_NETWORK
from cups.data.fit import Fit
from cups.data.unlabelled import UnlabelledImages
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint, load_checkpoint, weights_digest
from cups.io.fingerprint import IDENTITY
from cups.io.provenance import code_version, ground_truth_answer
from cups.model import MergeChoices
from cups.model.architecture import as_plain
from cups.model.model import network_of
from cups.model.network_config import stored_architecture
from cups.model.speed import set_speed
from cups.model.tta import Views
from cups.network import split_of
from cups.pl_model_self import SelfTrainingModule
from cups.training.round_selection import Consistency, Criterion, RoundCheckpoints, ValidationQuality
from cups.training.self_training import RoundSchedule

log = logging.getLogger(__name__)

STAGE_KEYS = {
    "TRAINING.ADAMW.LEARNING_RATE": "SELF_TRAINING.LEARNING_RATE",
    "TRAINING.SGD.LEARNING_RATE": "SELF_TRAINING.LEARNING_RATE",
    "TRAINING.WARMUP_STEPS": "SELF_TRAINING.WARMUP_STEPS",
    "TRAINING.DECAY": "SELF_TRAINING.DECAY",
    "TRAINING.DROP_LOSS": "SELF_TRAINING.USE_DROP_LOSS",
    "TRAINING.VAL_EVERY_N_STEPS": "SELF_TRAINING.VAL_EVERY_N_STEPS",
    "DATA.SCALE": "SELF_TRAINING.SCALE",
    "DATA.CROP_RESOLUTION": "SELF_TRAINING.CROP_RESOLUTION",
}
"""Keys that have another value in Stage 3: {key: where it stands}; None there keeps the value of Stage 2."""


def self_training_config(config: CfgNode, checkpoint: Path | None = None) -> CfgNode:
    """Return the configuration as Stage 3 sees it, so that both stages read the same keys.

    Args:
        config: the whole configuration.
        checkpoint: network of Stage 2, instead of `MODEL.CHECKPOINT`.

    Raises:
        UserError: without a checkpoint.
    """
    stage = config.clone()
    stage.defrost()
    for key, source in STAGE_KEYS.items():
        if get(config, source) is not None:
            section, name = key.rsplit(".", 1)
            setattr(get(stage, section), name, get(config, source))
    stage.TRAINING.STEPS = round_schedule(config).steps
    stage.MODEL.CHECKPOINT = str(checkpoint or config.MODEL.CHECKPOINT or "") or None
    if stage.MODEL.CHECKPOINT is None:
        raise UserError("MODEL.CHECKPOINT is not set; give the network of Stage 2 with `checkpoint`")
    stage.freeze()
    return stage


def round_schedule(config: CfgNode) -> RoundSchedule:
    """Translate the keys of the rounds."""
    keys = config.SELF_TRAINING
    return RoundSchedule(
        rounds=keys.ROUNDS,
        round_steps=keys.ROUND_STEPS,
        threshold=config.MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD,
        threshold_step=keys.CONFIDENCE_STEP,
    )


def teacher_views(config: CfgNode) -> Views:
    """Return the views of the teacher; without augmentation, the plain image."""
    return views_of(config) if config.SELF_TRAINING.USE_TTA else Views()


def build_unlabelled_data(config: CfgNode) -> tuple[UnlabelledImages, UnlabelledImages]:
    """Return the images to train on, and those held out to choose the round by."""
    data = config.DATA
    images = UnlabelledImages(
        data.ROOT,
        config.SELF_TRAINING.IMAGES,
        scale=data.SCALE,
        crop=tuple(data.CROP_RESOLUTION),
        max_images=data.MAX_IMAGES,
        fit=data.FIT,
        seed=config.SYSTEM.SEED,
    )
    return images.hold_out(config.SELF_TRAINING.SELECT_FRAMES)


def self_augmentation(config: CfgNode, canvas: tuple[int, int] | None = None) -> BatchAugmentation:
    """Translate the augmentation keys: Stage 2's, and the random crop."""
    common = batch_augmentation(config, canvas)
    heights = tuple(config.SELF_TRAINING.CROP_HEIGHTS)
    return BatchAugmentation(
        common.copy_paste,
        RandomCrop(heights) if heights else None,
        common.resolution_jitter,
        common.photometric,
    )


def build_self_training_module(config: CfgNode, fit: Fit) -> SelfTrainingModule:
    """Build the Lightning module of Stage 3 from `MODEL.CHECKPOINT`.

    Args:
        config: of `self_training_config`.
        fit: geometry of the training images.
    """
    checkpoint = load_checkpoint(config.MODEL.CHECKPOINT)
    model, pseudo = network_of(
        checkpoint, "cpu", config.MODEL.INFERENCE_CONFIDENCE_THRESHOLD, config.MODEL.CONFIG
    )
    tell_what_is_lost(config, checkpoint)
    set_drop_loss(model, config)
    MergeChoices.of_keys(config.MODEL).apply(model)
    # Not by itself: the teacher labels images one by one, where it was slower in Stage 2.
    channels_last = bool(config.TRAINING.CHANNELS_LAST)
    set_speed(model, channels_last=channels_last, compile_trunk=config.TRAINING.COMPILE)
    keys = config.SELF_TRAINING
    return SelfTrainingModule(
        model.train(),
        split_of(checkpoint, pseudo),
        optimizer_settings(config),
        self_augmentation(config, fit.canvas),
        round_schedule(config),
        trainable=keys.TRAINABLE,
        views=teacher_views(config),
        momentum=keys.EMA_MOMENTUM,
        relative_threshold=keys.SEMANTIC_SEGMENTATION_THRESHOLD,
        ignore_unknown_things=config.DATA.IGNORE_UNKNOWN_THING_REGIONS,
        draw_classes=keys.DRAW_CLASSES,
        round_start=keys.ROUND_START,
        metric=build_metric(config, pseudo),
        seed=config.SYSTEM.SEED,
        description={
            "config": plain(config),
            "model": described_model(checkpoint, config),
            "provenance": self_training_provenance(checkpoint),
            "working_size": list(fit.working_size),
            **({"classes": known} if (known := checkpoint.hyper_parameters.get("classes")) else {}),
        },
    )


def described_model(checkpoint: Checkpoint, config: CfgNode) -> dict[str, Any]:
    """Return what the checkpoint says of its network, with what this stage changes."""
    architecture = stored_architecture(checkpoint, config.MODEL.CONFIG)
    return {"architecture": architecture | MergeChoices.of_keys(config.MODEL).architecture}


def tell_what_is_lost(config: CfgNode, checkpoint: Checkpoint) -> None:
    """Warn of what does not reach Stage 3, which goes on with the network of the checkpoint."""
    weighted = checkpoint.section("config", "TRAINING").get("CLASS_WEIGHTING", False)
    if weighted and "class_weights" not in checkpoint.section("model"):
        log.warning(
            "%s: was trained with class weights by a version that stored none; Stage 3 goes on without",
            checkpoint.path,
        )
    _tell_other_network(config, checkpoint)
    built = stored_architecture(checkpoint, config.MODEL.CONFIG)
    wanted = pairs_of(config.MODEL.OVERRIDES)
    if other := sorted(key for key, value in wanted.items() if built.get(key) != as_plain(value)):
        log.warning(
            "MODEL.OVERRIDES %s: no effect, Stage 3 goes on with the network of %s as it was built",
            " ".join(other),
            checkpoint.path,
        )


def _tell_other_network(config: CfgNode, checkpoint: Checkpoint) -> None:
    """Warn of keys of the network that a YAML or a command line sets, and Stage 3 does not read."""
    before = checkpoint.hyper_parameters.get("config")
    stored = dict(flatten(before)) if isinstance(before, dict) else {}
    for key in STAGE3_NETWORK:
        now = get(config, key)
        if key in stored and now not in (stored[key], KEYS[key].default):
            log.warning(
                "%s %s: no effect, Stage 3 goes on with the network of %s as it was built (%s)",
                key, now, checkpoint.path, stored[key],
            )  # fmt: skip


def pairs_of(flat: Sequence[Any]) -> dict[str, Any]:
    """Return {key: value} of KEY, value, KEY, value, ...; of a repeated key the last counts."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def set_drop_loss(model: Any, config: CfgNode) -> None:
    """Switch DropLoss of a network as `TRAINING.DROP_LOSS` says (Stage 3: `SELF_TRAINING.USE_DROP_LOSS`)."""
    model.roi_heads.use_drop_loss = config.TRAINING.DROP_LOSS
    model.roi_heads.drop_loss_iou = config.TRAINING.DROP_LOSS_IOU_THRESHOLD


def self_training_provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    """Carry on what is known of the Stage-2 network; self-training itself reads images only."""
    before = checkpoint.provenance
    uses = before.get("uses_ground_truth")
    log.info("network %s: ground truth used: %s", checkpoint.path, ground_truth_answer(uses))
    return {
        "code_version": code_version(),
        "uses_ground_truth": uses,
        "checkpoint": str(checkpoint.path),
        IDENTITY: {checkpoint.path.name: weights_digest(checkpoint)},
        "stage2": before,
    }


def build_round_checkpoints(
    config: CfgNode, module: SelfTrainingModule, held_out: UnlabelledImages, directory: Path
) -> RoundCheckpoints:
    """Build the callback that keeps the rounds and chooses the best by `SELF_TRAINING.SELECT`."""
    pseudo = module.split.pseudo_classes
    criterion: Criterion | None = None
    if config.SELF_TRAINING.SELECT == "consistency":
        criterion = Consistency(held_out, pseudo, views_of(config))
    elif config.SELF_TRAINING.SELECT == "val":
        batches: Any = validation_loader(build_validation_data(config), config)
        criterion = ValidationQuality(batches, build_metric(config, pseudo), pseudo)
    return RoundCheckpoints(directory / "checkpoints", config.SELF_TRAINING.ROUND_STEPS, criterion)
