"""From a configuration to fine-tuning on ground truth: its frames, the network's start, provenance."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from cups.augmentation import flip_and_resized_crop
from cups.builders.evaluation import evaluated_classes
from cups.data import GroundTruthFrames
from cups.data.labelled_frames import LabelledFrames
from cups.data.validation_sets import open_validation_set
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint, differences, is_counter
from cups.io.fingerprint import frames_identity
from cups.io.provenance import code_version, ground_truth_answer
from cups.model.model import network_of
from cups.model.modeling.meta_arch.merge import best_channel
from cups.ops.spread import spread_places
from cups.structures import ThingStuffSplit
from cups.taxonomy import WIDE_VOID, ClassSet

log = logging.getLogger(__name__)

SPLIT = "train"
"""Whose ground truth is learnt; that of the evaluation is never among it."""
LOOKED_AT = 32
"""Labelled frames at most on which pseudo-classes are matched to classes."""
LEAST_SCORE = 0.3
"""Of the objects that count there."""
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
    truth = open_validation_set(data.DATASET, data.ROOT, SPLIT, evaluated_classes(config))
    frames = GroundTruthFrames(
        truth,
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


class Overlaps(NamedTuple):
    """Pixels that a network's pseudo-classes share with the classes of some labelled frames.

    stuffs (S, S') and things (T, T') float64, rows of the network, columns of the labels.
    """

    stuffs: Tensor
    things: Tensor


@torch.no_grad()
def count_overlaps(checkpoint: Checkpoint, data: LabelledFrames) -> Overlaps:
    """Count where a checkpoint's pseudo-classes lie, on at most `LOOKED_AT` of the labelled frames."""
    network: Any
    network, old = network_of(checkpoint, "cpu", LEAST_SCORE)
    network.combine_snap_to_regions = False
    new = data.split.pseudo_classes
    stuffs = torch.zeros(old.stuffs + 1, new.stuffs + 1, dtype=torch.float64)
    things = torch.zeros(old.things, new.things, dtype=torch.float64)
    for index in spread_places(len(data), LOOKED_AT):
        sample = data.load(index)
        (output,) = network([{"image": sample.image}])
        known = sample.sem_seg != WIDE_VOID
        pairs = best_channel(output["sem_seg"])[known] * stuffs.shape[1] + sample.sem_seg[known]
        stuffs += torch.bincount(pairs, minlength=stuffs.numel()).reshape(stuffs.shape)
        found = output["instances"]
        shared = found.pred_masks.flatten(1).double() @ sample.masks.flatten(1).double().T
        places = (found.pred_classes[:, None].expand_as(shared), sample.classes.expand_as(shared))
        things.index_put_(places, shared, accumulate=True)
    return Overlaps(stuffs[1:, 1:], things)


def begin_with(
    model: nn.Module,
    checkpoint: Checkpoint,
    split: ThingStuffSplit,
    rows: list[dict[str, Any]],
    overlaps: Callable[[], Overlaps],
) -> None:
    """Take a checkpoint's weights over into a network of other classes, in place.

    Everything that knows no class is copied: trunk, pyramid, proposals, boxes, the layers of all heads. Of
    the layers whose rows are classes, two rows mean the same in any network and are copied too: "some thing"
    of the semantic head, and background of the box stages. A class begins with the mean row of the
    pseudo-classes that lie mostly on it in the labelled frames. Without any, it begins as it was built, at
    random, and its mask as the mean of all. A checkpoint of the same classes is copied whole.

    Args:
        split, rows: things and stuff of the network, and its classes as in `class_rows`.
        overlaps: counts them, see `count_overlaps`; asked where classes differ.

    Raises:
        UserError: weights of another architecture.
    """
    own, state = model.state_dict(), dict(checkpoint.state)
    stored = checkpoint.hyper_parameters
    order = [list(stored.get(f"{kind}_pseudo_classes", ())) for kind in ("thing", "stuff")]
    same = stored.get("classes") == rows and order == [list(split.things), list(split.stuffs)]
    taken = {name: value for name, value in state.items() if name in own or not is_counter(name)}
    layers = [name for name in own if any(part in name for part in CLASS_LAYERS) and name in state]
    fitting = all(state[name].shape[1:] == own[name].shape[1:] for name in layers)
    if not same and fitting:
        counts = overlaps()
        for name in layers:
            taken[name] = _row_by_row(name, state[name], own[name], counts)
    taken |= {name: value for name, value in own.items() if is_counter(name) and name not in taken}
    if problems := differences(own, taken):
        raise UserError(
            f"{checkpoint.path}: weights of another network ({problems}); set MODEL.CONFIG and "
            "MODEL.OVERRIDES as it was trained"
        )
    model.load_state_dict(taken)
    said = "classes and all" if same else "its classes as those of the labelled frames that they lie on"
    log.info("%s: taken over, %s", checkpoint.path, said)


def _row_by_row(name: str, old: Tensor, new: Tensor, counts: Overlaps) -> Tensor:
    """Return the rows (or the biases) with which a layer of classes begins."""
    made = new.clone()
    if "sem_seg_head" in name:
        made[0] = old[0]
        made[1:] = _mean_rows(old[1:], made[1:], counts.stuffs, scores=True)
    elif "cls_score" in name:
        made[-1] = old[-1]
        made[:-1] = _mean_rows(old[:-1], made[:-1], counts.things, scores=True)
    else:
        made[:] = old.mean(dim=0)
        if len(old) > 1 and len(new) > 1:  # masks of one row know no class
            made = _mean_rows(old, made, counts.things)
    return made


def _mean_rows(old: Tensor, new: Tensor, counts: Tensor, scores: bool = False) -> Tensor:
    """Return rows of classes: the mean of the old rows whose pixels are mostly theirs, weighted by pixels.

    Args:
        old, new: (K, ...) and (C, ...); new ones stay where no old row is theirs.
        counts: (K, C) pixels.
        scores: the rows are logits: the probabilities of n equal old rows add up, log n in the bias.
    """
    theirs = nn.functional.one_hot(counts.argmax(dim=1), counts.shape[1]) * (counts > 0) * counts
    weights, made = theirs.sum(dim=0), new.clone()
    for number in weights.nonzero().flatten().tolist():
        share = (theirs[:, number] / weights[number]).to(old.dtype)
        made[number] = torch.tensordot(share, old, dims=1)
        if scores and old.ndim == 1:
            made[number] += torch.special.entr(share).sum()
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
