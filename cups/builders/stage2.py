"""The one border where a configuration becomes data sets, models, metrics and modules."""

from __future__ import annotations

import logging
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from cups.augmentation import (
    BatchAugmentation,
    CopyPaste,
    Photometric,
    ResolutionJitter,
    flip_and_resized_crop,
)
from cups.builders.evaluation import build_metric, identity_assignment
from cups.builders.ground_truth import (
    begin_with,
    build_ground_truth_data,
    class_rows,
    count_overlaps,
    ground_truth_provenance,
    learns_from_ground_truth,
)
from cups.config import plain
from cups.data import GroundTruthFrames, PseudoLabelDataset
from cups.data.labelled_frames import LabelledFrames
from cups.data.pseudo_label_dataset import load_statistics
from cups.errors import UserError
from cups.io.checkpoint import load_checkpoint, load_into, weights_digest
from cups.io.fingerprint import IDENTITY
from cups.io.provenance import (
    any_ground_truth,
    code_version,
    fits_within,
    ground_truth_answer,
    known_weights,
    read_provenance,
    trained_weights,
)
from cups.io.weights import stored_at, weight_files
from cups.label_split import held_split, label_split
from cups.model import (
    DEFAULT_CONFIG,
    VIT_CONFIG,
    MergeChoices,
    freeze_batch_norm,
    panoptic_cascade_mask_r_cnn,
    vit_overrides,
)
from cups.model.network_config import architecture_of, load_config
from cups.model.speed import prefers_channels_last, set_speed
from cups.network import stored_classes
from cups.pl_model_pseudo import PseudoLabelModule, SelfPaste
from cups.structures import ThingStuffSplit
from cups.training.optimizer import OptimizerSettings
from cups.training.self_training import select_trainable

log = logging.getLogger(__name__)

DINO_NAMES = ("dino_RN50_pretrain_d2_format.pkl", "dino_RN50_full_pretrain_d2_format.pkl")
"""Names under which DINO's ResNet-50 is published; it lies where `refs/weights.yaml` says."""
OWN_SCRIPT = "train_backbone"
"""Which of our scripts writes a ResNet, with its provenance beside it."""
MAX_CLASS_WEIGHT = 10.0
"""Largest loss weight of a rare class, relative to that of the median class."""


def find_backbone_checkpoint(config: CfgNode) -> Path | None:
    """Return the self-supervised weights to start from, None when `MODEL.USE_DINO` is off or none exist.

    Raises:
        UserError: wanted, but in none of the known places.
    """
    model = config.MODEL
    if not model.USE_DINO or model.CHECKPOINT is not None or model.BACKBONE_TYPE == "texton":
        return None
    if model.BACKBONE_CHECKPOINT is not None:
        given = stored_at(Path(model.BACKBONE_CHECKPOINT))
        found, wanted, looked_for = (given if given.is_file() else None), given, ""
    else:
        name = "dino_resnet50" if model.BACKBONE_TYPE == "resnet50" else model.BACKBONE_TYPE
        file = weight_files(name)[0]
        found, wanted, looked_for = file.find(), file.path, f"{file.looked_for()}; "
    if found is None:
        raise UserError(
            f"{wanted}: no such file, the weights of {model.BACKBONE_TYPE}; {looked_for}download them "
            "(README, Checkpoints), name them with MODEL.BACKBONE_CHECKPOINT, or start from random ones "
            "with MODEL.USE_DINO False"
        )
    return found


def network_of(config: CfgNode) -> dict[str, Any]:
    """Return `model_config` and `model_overrides` of the network that a configuration wants."""
    model = config.MODEL
    merge = MergeChoices.of_keys(model).architecture
    overrides = [*model.OVERRIDES, *chain.from_iterable(merge.items())]
    if model.BACKBONE_TYPE == "resnet50":
        return {"model_config": model.CONFIG or DEFAULT_CONFIG, "model_overrides": overrides}
    transformer = vit_overrides(model.BACKBONE_TYPE, model.FREEZE_BACKBONE, model.GRADIENT_CHECKPOINTING)
    return {"model_config": model.CONFIG or VIT_CONFIG, "model_overrides": [*transformer, *overrides]}


def described_network(config: CfgNode) -> dict[str, Any]:
    """Return what a checkpoint says of its network: the whole architecture, as plain values."""
    network = network_of(config)
    return {"architecture": architecture_of(load_config(network["model_config"], network["model_overrides"]))}


def pseudo_label_folder(config: CfgNode) -> Path:
    """Return the folder of the training labels.

    Raises:
        UserError: none given.
    """
    if config.DATA.ROOT_PSEUDO is None:
        raise UserError("DATA.ROOT_PSEUDO is not set; give the pseudo-labels with `pseudo_root`")
    return Path(config.DATA.ROOT_PSEUDO)


def split_to_go_on_with(config: CfgNode, resumed: Path | None) -> ThingStuffSplit | None:
    """Return the split of the network that training goes on with, None where it starts from scratch.

    Args:
        config: the whole configuration; its `MODEL.CHECKPOINT` counts where nothing is resumed.
        resumed: checkpoint of the run itself.

    Raises:
        UserError: the labels have other pseudo-classes than the network, or were clustered anew.
    """
    path = resumed or config.MODEL.CHECKPOINT
    if path is None or learns_from_ground_truth(config):  # its classes are those of the data set
        return None
    checkpoint = load_checkpoint(path)
    things, stuffs = (stored_classes(checkpoint, kind) for kind in ("thing", "stuff"))
    if not things or not stuffs:  # a published network: it has no record of them
        return None
    folder = pseudo_label_folder(config)
    before = fits_within(checkpoint.section("provenance", "pseudo_labels"))
    now = fits_within(read_provenance(folder) or {})
    if anew := sorted(name for name in before.keys() & now.keys() if before[name] != now[name]):
        raise UserError(
            f"{folder}: was made with other {', '.join(anew)} than the labels of {path}, so that equal "
            "numbers mean other pseudo-classes; use the labels it was trained on, or start another `run_name`"
        )
    own = label_split(folder, *load_statistics(folder), config.DATA.THING_STUFF_THRESHOLD)
    return held_split(ThingStuffSplit(things, stuffs), own, folder, Path(path), resumed is not None)


def build_training_data(config: CfgNode, split: ThingStuffSplit | None = None) -> LabelledFrames:
    """Build the training data set of Stage 2; `split` is that of a network to go on with."""
    data = config.DATA
    if learns_from_ground_truth(config):
        return build_ground_truth_data(config)
    return PseudoLabelDataset(
        data.ROOT,
        pseudo_label_folder(config),
        scale=data.SCALE,
        crop=tuple(data.CROP_RESOLUTION),
        thing_stuff_threshold=data.THING_STUFF_THRESHOLD,
        ignore_unknown_things=data.IGNORE_UNKNOWN_THING_REGIONS,
        only_non_empty=data.ONLY_NON_EMPTY_SAMPLES,
        max_images=data.MAX_IMAGES,
        augment=flip_and_resized_crop,
        seed=config.SYSTEM.SEED,
        fit=data.FIT,
        split=split,
    )


def class_weights(data: LabelledFrames) -> torch.Tensor:
    """Return (S + 1,) float32 loss weights of the semantic channels, "some thing" first (mean weight 1).

    min(sqrt(median(f) / f_c), MAX_CLASS_WEIGHT), f the pixels of a channel: median-frequency balancing (Eigen
    and Fergus, ICCV 2015) under the square root that Mahajan et al. (ECCV 2018) sample rare classes with. The
    plain inverse lets a cluster of a few pixels, of which 300 overclusters have many, outweigh all others.
    """
    counts = data.all_pixels.float()
    things = counts[list(data.split.things)].sum().reshape(1)
    counts = torch.cat((things, counts[list(data.split.stuffs)]))
    median = counts[counts > 0].median()
    weights = torch.where(counts > 0, (median / counts.clamp(min=1.0)).sqrt(), 1.0)
    weights = weights.clamp(max=MAX_CLASS_WEIGHT)
    return weights / weights.mean()


def build_model(config: CfgNode, data: LabelledFrames) -> torch.nn.Module:
    """Build the network of Stage 2 for the classes of `data`, from a checkpoint, DINO, or scratch.

    Raises:
        UserError: a checkpoint of another network, or of other numbers of pseudo-classes.
    """
    model_config = config.MODEL
    training = config.TRAINING
    split = data.split
    model = panoptic_cascade_mask_r_cnn(
        len(split.things),
        len(split.stuffs) + 1,
        confidence_threshold=model_config.INFERENCE_CONFIDENCE_THRESHOLD,
        **network_of(config),
        backbone_checkpoint=find_backbone_checkpoint(config),
        class_weights=class_weights(data).tolist() if training.CLASS_WEIGHTING else None,
        use_drop_loss=training.DROP_LOSS,
        drop_loss_iou_threshold=training.DROP_LOSS_IOU_THRESHOLD,
    )
    if model_config.CHECKPOINT is not None:
        checkpoint = load_checkpoint(model_config.CHECKPOINT)
        if isinstance(data, GroundTruthFrames):
            begin_with(
                model, checkpoint, split, class_rows(data.classes), partial(count_overlaps, checkpoint, data)
            )
        else:
            load_into(model, checkpoint)
    if training.TRAINABLE == "heads":
        # Frozen weights see the statistics that they were trained with.
        select_trainable(model := freeze_batch_norm(model), training.TRAINABLE)
    channels_last = training.CHANNELS_LAST
    if channels_last is None:
        channels_last = prefers_channels_last(config.SYSTEM.ACCELERATOR, training.BATCH_SIZE)
    return set_speed(model, channels_last=channels_last, compile_trunk=training.COMPILE)


def optimizer_settings(config: CfgNode) -> OptimizerSettings:
    """Translate the configuration's optimiser keys."""
    training = config.TRAINING
    group = training.SGD if training.OPTIMIZER == "sgd" else training.ADAMW
    return OptimizerSettings(
        name=training.OPTIMIZER,
        learning_rate=group.LEARNING_RATE,
        weight_decay=group.WEIGHT_DECAY,
        betas=tuple(training.ADAMW.BETAS),
        momentum=training.SGD.MOMENTUM,
        warmup_steps=training.WARMUP_STEPS,
        decay=training.DECAY,
        steps=training.STEPS,
        layer_decay=training.LAYER_DECAY,
    )


def batch_augmentation(config: CfgNode, canvas: tuple[int, int] | None = None) -> BatchAugmentation:
    """Translate the configuration's augmentation keys.

    The sizes that batches get are made for DATA.CROP_RESOLUTION: they shrink with a smaller `canvas` (H, W),
    so that it keeps its shape.
    """
    augmentation, crop = config.AUGMENTATION, config.DATA.CROP_RESOLUTION
    height, width = canvas or crop
    paste = CopyPaste(max_objects=augmentation.MAX_NUM_PASTED_OBJECTS, min_side=augmentation.MIN_PASTED_SIDE)
    resolutions = tuple(
        (round(size[0] * height / crop[0]), round(size[1] * width / crop[1]))
        for size in augmentation.RESOLUTIONS
    )
    return BatchAugmentation(
        copy_paste=paste if augmentation.COPY_PASTE else None,
        resolution_jitter=ResolutionJitter(resolutions) if resolutions else None,
        photometric=Photometric(blur_probability=augmentation.BLUR_PROBABILITY),
    )


def build_module(config: CfgNode, data: LabelledFrames) -> PseudoLabelModule:
    """Build the Lightning module of Stage 2."""
    description = {
        "config": plain(config),
        "model": described_network(config),
        "provenance": training_provenance(config, data),
        "working_size": list(data.fit.working_size),
    }
    after, assignment = config.AUGMENTATION.NUM_STEPS_STARTUP, None
    if isinstance(data, GroundTruthFrames):
        rows = class_rows(data.classes)
        description["classes"] = rows
        assignment = identity_assignment(rows, data.split, data.classes)
        after = config.TRAINING.STEPS + 1  # what the network finds beside the ground truth is no object
    return PseudoLabelModule(
        build_model(config, data),
        data.split,
        optimizer_settings(config),
        batch_augmentation(config, data.fit.canvas),
        SelfPaste(after, config.AUGMENTATION.CONFIDENCE),
        metric=build_metric(config, data.split.pseudo_classes, assignment),
        seed=config.SYSTEM.SEED,
        description=description,
    )


def starting_weights(config: CfgNode) -> list[dict[str, Any]]:
    """Return what is known of the weights that training starts from, as entries of `refs/weights.yaml`.

    A checkpoint of ours says itself what it was made of; a ResNet under a name that is not DINO's is unknown.
    """
    if config.MODEL.CHECKPOINT is not None:
        path = Path(config.MODEL.CHECKPOINT)
        before = load_checkpoint(path)
        identity = {IDENTITY: {path.name: weights_digest(before)}}
        uses = before.provenance.get("uses_ground_truth")
        return [{"name": str(path), "uses_ground_truth": uses, **identity}]
    file = find_backbone_checkpoint(config)
    if file is None:
        return []
    name = config.MODEL.BACKBONE_TYPE
    if name == "resnet50" and (read_provenance(file.parent) or {}).get("script") == OWN_SCRIPT:
        return [trained_weights(file)]
    if name == "resnet50":
        name = "dino_resnet50" if file.name in DINO_NAMES else str(file)
    return [known_weights(name, file)]


def training_provenance(config: CfgNode, data: LabelledFrames | None = None) -> dict[str, Any]:
    """Say what the training labels and starting weights came from; logged, and stored in checkpoints."""
    if isinstance(data, GroundTruthFrames):
        path = config.MODEL.CHECKPOINT
        start = {} if path is None else load_checkpoint(path).provenance
        return ground_truth_provenance(config, data, starting_weights(config), start)
    folder = pseudo_label_folder(config)
    labels = read_provenance(folder)
    weights = starting_weights(config)
    facts = [entry.get("uses_ground_truth") for entry in (labels or {}, *weights)]
    uses = any_ground_truth(facts)
    log.info("training labels %s: ground truth used: %s", folder, ground_truth_answer(facts[0]))
    for entry in weights:
        log.info(
            "starting weights %s: ground truth used: %s",
            entry["name"],
            ground_truth_answer(entry.get("uses_ground_truth")),
        )
    return {
        "code_version": code_version(),
        "uses_ground_truth": uses,
        "pseudo_labels": labels,
        "weights": weights,
    }
