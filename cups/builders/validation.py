"""What a training is validated with: ground truth where there is some, else measures that need none."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from torch.utils.data import Dataset
from yacs.config import CfgNode

from cups.builders.evaluation import build_validation_data
from cups.builders.inference import views_of
from cups.data import CityscapesPanopticValidation
from cups.data.described import has_ground_truth
from cups.errors import UserError
from cups.set_files import find_set
from cups.structures import LoadedImage, PseudoClasses
from cups.training.label_free import LabelFreeMeasures
from cups.training.round_selection import Consistency

log = logging.getLogger(__name__)


def training_validation(config: CfgNode) -> CityscapesPanopticValidation | None:
    """Return the frames with ground truth that a training validates on, None where there are none.

    Of many they may be some (`TRAINING.NUM_VAL_FRAMES`).

    Raises:
        UserError: `DATA.ROOT_VAL` names a folder without ground truth, or its ground truth is incomplete.
    """
    data = config.DATA
    if data.ROOT_VAL is None:
        if not has_ground_truth(find_set(data.DATASET), Path(data.ROOT), data.VAL_SPLIT):
            _tell_without(data.ROOT, data.VAL_SPLIT)
            return None
        return _frames(config)
    try:
        return _frames(config)
    except UserError as error:
        raise UserError(
            f"{error}; or leave DATA.ROOT_VAL None: training validates on DATA.ROOT where it has ground "
            "truth, and does without where it has not"
        ) from None


def _frames(config: CfgNode) -> CityscapesPanopticValidation:
    frames, count = build_validation_data(config), config.TRAINING.NUM_VAL_FRAMES
    return frames if count is None else frames.part(count)


@cache
def _tell_without(root: str, split: str) -> None:
    """Say it once, whichever stages a process runs."""
    log.warning(
        "%s: no ground truth of the split %s, so none validates the training; at each validation interval it "
        "logs consistency, void and objects per image of held-out images",
        root,
        split,
    )


def check_selection(config: CfgNode, validation: object | None) -> None:
    """Refuse to choose a round by ground truth where there is none.

    Raises:
        UserError: naming the choice that needs none.
    """
    if config.SELF_TRAINING.SELECT == "val" and validation is None:
        raise UserError(
            f"SELF_TRAINING.SELECT is val, but {config.DATA.ROOT} has no ground truth to choose the round "
            "by; take consistency, or name a set that has in DATA.ROOT_VAL"
        )


def label_free_measures(
    config: CfgNode, frames: Dataset[LoadedImage], pseudo: PseudoClasses
) -> LabelFreeMeasures:
    """Build the callback that takes the place of validation where there is no ground truth."""
    views = Consistency(frames, pseudo, views_of(config))
    return LabelFreeMeasures(views, config.TRAINING.VAL_EVERY_N_STEPS)
