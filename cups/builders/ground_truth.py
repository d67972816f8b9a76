"""From a configuration to fine-tuning on ground truth: its frames, the network's start, provenance."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from yacs.config import CfgNode

import cups.data
from cups.augmentation import flip_and_resized_crop
from cups.builders.evaluation import evaluated_classes
from cups.data import CityscapesPanopticValidation, GroundTruthFrames
from cups.data.validation_sets import VALIDATION_SETS
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint, differences, is_counter
from cups.io.fingerprint import frames_identity
from cups.io.provenance import code_version, ground_truth_answer
from cups.structures import ThingStuffSplit
from cups.taxonomy import ClassSet

log = logging.getLogger(__name__)

SPLIT = "train"
"""Whose ground truth is learnt; that of the evaluation is never among it."""
CLASS_LAYERS = ("sem_seg_head.predictor.", "roi_heads.mask_head.predictor.", "cls_score.")
"""Where the names of layers hold one of these, their rows are classes."""


def learns_from_ground_truth(config: CfgNode) -> bool:
    """Return whether Stage 2 learns from ground truth.

    Raises:
        UserError: a share of labels where there is none to take it of.
    """
    data = config.DATA
    if not data.GROUND_TRUTH and data.LABEL_FRACTION != 1:
        raise UserError(
            f"DATA.LABEL_FRACTION is {data.LABEL_FRACTION}, a share of the ground truth; give "
            "`ground_truth` to learn from it, or leave it 1"
        )
    return bool(data.GROUND_TRUTH)


def build_ground_truth_data(config: CfgNode) -> GroundTruthFrames:
    """Build the training data of fine-tuning, and say how much of the ground truth it uses."""
    data = config.DATA
    dataset: type[CityscapesPanopticValidation] = getattr(cups.data, VALIDATION_SETS[data.DATASET])
    frames = GroundTruthFrames(
        dataset(data.ROOT, SPLIT, evaluated_classes(config)),
        data.LABEL_FRACTION,
        config.SYSTEM.SEED,
        scale=data.SCALE,
        crop=tuple(data.CROP_RESOLUTION),
        fit=data.FIT,
        ignore_unknown_things=data.IGNORE_UNKNOWN_THING_REGIONS,
        max_images=data.MAX_IMAGES,
        augment=flip_and_resized_crop,
    )
    log.warning(
        "%s: learning from the GROUND TRUTH of %d of %d frames (seed %d): no unsupervised network any more",
        data.ROOT, len(frames), frames.available, config.SYSTEM.SEED,
    )  # fmt: skip
    if config.TRAINING.DROP_LOSS:
        log.warning(
            "TRAINING.DROP_LOSS True: all objects are labelled, so that proposals on none are background; "
            "False lets them teach it"
        )
    return frames


def class_rows(classes: ClassSet) -> list[dict[str, Any]]:
    """Return what a checkpoint says of the classes that its network knows, in the order of their numbers."""
    rows = zip(classes.names, classes.colors.tolist(), strict=True)
    return [
        {"name": name, "isthing": number in classes.things, "color": color}
        for number, (name, color) in enumerate(rows)
    ]


def begin_with(
    model: nn.Module, checkpoint: Checkpoint, split: ThingStuffSplit, rows: list[dict[str, Any]]
) -> None:
    """Take a checkpoint's weights over into a network of other classes, in place.

    Everything that knows no class is copied: trunk, pyramid, proposals, boxes, the layers of all heads. Of
    the layers whose rows are classes, two rows mean the same in any network and are copied too: "some thing"
    of the semantic head, and background of the box stages. A new kind of thing begins with the mean mask of
    the old ones; its scores, and stuff, begin as they were built, at random. A checkpoint of the same classes
    is copied whole.

    Args:
        split, rows: things and stuff of the network, and its classes as in `class_rows`.

    Raises:
        UserError: weights of another architecture.
    """
    own, state = model.state_dict(), dict(checkpoint.state)
    stored = checkpoint.hyper_parameters
    order = [list(stored.get(f"{kind}_pseudo_classes", ())) for kind in ("thing", "stuff")]
    same = stored.get("classes") == rows and order == [list(split.things), list(split.stuffs)]
    taken = {name: value for name, value in state.items() if name in own or not is_counter(name)}
    if not same:
        for name in [name for name in own if any(part in name for part in CLASS_LAYERS)]:
            if name in state:
                taken[name] = _row_by_row(name, state[name], own[name])
    taken |= {name: value for name, value in own.items() if is_counter(name) and name not in taken}
    if problems := differences(own, taken):
        raise UserError(
            f"{checkpoint.path}: weights of another network ({problems}); set MODEL.CONFIG and "
            "MODEL.OVERRIDES as it was trained"
        )
    model.load_state_dict(taken)
    said = "classes and all" if same else "without its classes, whose layers begin anew"
    log.info("%s: taken over %s", checkpoint.path, said)


def _row_by_row(name: str, old: Tensor, new: Tensor) -> Tensor:
    """Return the rows (or the biases) of a layer of classes; another width is told by its shape."""
    made = new.clone()
    if old.shape[1:] != new.shape[1:]:
        return old
    if "sem_seg_head" in name:
        made[0] = old[0]
    elif "cls_score" in name:
        made[-1] = old[-1]
    else:
        made[:] = old.mean(dim=0)
    return made


def ground_truth_provenance(
    config: CfgNode, data: GroundTruthFrames, weights: list[dict[str, Any]], start: dict[str, Any]
) -> dict[str, Any]:
    """Say what the labels and starting weights of fine-tuning came from; stored in checkpoints.

    Args:
        weights: what training starts from, as entries of `refs/weights.yaml`.
        start: provenance of the checkpoint among them.
    """
    for entry in weights:
        answer = ground_truth_answer(entry.get("uses_ground_truth"))
        log.info("starting weights %s: ground truth used: %s", entry["name"], answer)
    return {
        "code_version": code_version(),
        "uses_ground_truth": True,
        "ground_truth": {
            "data": Path(config.DATA.ROOT).resolve().name,
            "split": SPLIT,
            "fraction": config.DATA.LABEL_FRACTION,
            "frames": len(data),
            "of": data.available,
            "seed": config.SYSTEM.SEED,
            "names": frames_identity(data.stems),
        },
        "weights": weights,
        "start": start,
    }
