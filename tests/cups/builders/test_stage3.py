"""From keys to Stage 3's objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cups.builders.stage3 import (
    build_self_training_module,
    self_augmentation,
    self_training_config,
    self_training_provenance,
    teacher_views,
)
from cups.config import build_config
from cups.data.fit import Fit
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint


def test_self_training_config__own_keys_or_those_of_stage_two() -> None:
    pairs = ["TRAINING.ADAMW.LEARNING_RATE", 2e-3, "TRAINING.WARMUP_STEPS", 100, "TRAINING.DECAY", "cosine"]
    pairs += ["SELF_TRAINING.ROUNDS", 2, "SELF_TRAINING.ROUND_STEPS", 7, "MODEL.CHECKPOINT", "a.ckpt"]
    config = self_training_config(build_config(None, pairs))
    training = config.TRAINING
    assert (training.STEPS, training.WARMUP_STEPS, training.DECAY) == (14, 0, "constant")
    assert training.DROP_LOSS is False, "off in Stage 3, on in Stage 2"
    assert training.ADAMW.LEARNING_RATE == 2e-3 and training.ADAMW.WEIGHT_DECAY == 1e-5
    pairs += ["SELF_TRAINING.LEARNING_RATE", 1e-5, "SELF_TRAINING.SCALE", 1.0]
    pairs += ["SELF_TRAINING.CROP_RESOLUTION", "(1024, 2048)"]
    config = self_training_config(build_config(None, pairs), Path("b.ckpt"))
    assert config.TRAINING.ADAMW.LEARNING_RATE == config.TRAINING.SGD.LEARNING_RATE == 1e-5
    assert (config.DATA.SCALE, tuple(config.DATA.CROP_RESOLUTION)) == (1.0, (1024, 2048))
    assert config.MODEL.CHECKPOINT == "b.ckpt"


def test_self_training_config__flags_win_over_a_file_that_sets_stage_three() -> None:
    """A flag that a key of the section SELF_TRAINING overrules would be ignored without a word."""
    pairs = ["SELF_TRAINING.LEARNING_RATE", 1e-5, "SELF_TRAINING.VAL_EVERY_N_STEPS", 50]
    flags = {"lr": 3e-4, "val_every": 7, "checkpoint": "a.ckpt"}
    training = self_training_config(build_config(None, pairs, flags)).TRAINING
    assert (training.ADAMW.LEARNING_RATE, training.VAL_EVERY_N_STEPS) == (3e-4, 7)


def test_self_training_config__needs_a_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"MODEL\.CHECKPOINT is not set; .*Stage 2 with `checkpoint`"):
        self_training_config(build_config())
    config = self_training_config(build_config(None, ["MODEL.CHECKPOINT", str(tmp_path / "none.ckpt")]))
    with pytest.raises(UserError, match=r"none\.ckpt: no such file"):
        build_self_training_module(config, Fit((32, 64), (32, 64), None))


def test_teacher_views__ablation_is_the_plain_image() -> None:
    assert teacher_views(build_config()) == ((0.5, 0.75, 1.0), True)
    assert teacher_views(build_config(None, ["SELF_TRAINING.USE_TTA", False])) == ((1.0,), False)


def test_self_augmentation__crop_is_a_key() -> None:
    crop = self_augmentation(build_config()).random_crop
    assert crop is not None and crop.heights == (0.5, 1.0)
    assert self_augmentation(build_config(None, ["SELF_TRAINING.CROP_HEIGHTS", "()"])).random_crop is None


def _checkpoint(**stored: Any) -> Checkpoint:
    return Checkpoint(Path("stage2.ckpt"), {}, stored)


@pytest.mark.parametrize("fact", [True, False, None])
def test_provenance__carries_on_from_stage_two(fact: bool | None) -> None:
    stored = {"uses_ground_truth": fact, "pseudo_labels": {"script": "convert"}}
    provenance = self_training_provenance(_checkpoint(provenance=stored))
    assert provenance["uses_ground_truth"] is fact
    assert provenance["stage2"] == stored
    assert self_training_provenance(_checkpoint())["uses_ground_truth"] is None
