"""From keys to Stage 3's objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

import cups.model
from cups.builders.stage2 import described_network
from cups.builders.stage3 import (
    build_self_training_module,
    described_model,
    pairs_of,
    self_augmentation,
    self_training_config,
    self_training_provenance,
    teacher_views,
)
from cups.config import build_config
from cups.data.fit import Fit
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint
from cups.model.architecture import RULES
from cups.model.tta import Views
from tests.cups.conftest import STUFFS, THINGS, TINY


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
    assert teacher_views(build_config()) == Views((0.5, 0.75, 1.0), flip=True)
    assert teacher_views(build_config(None, ["SELF_TRAINING.USE_TTA", False])) == Views()


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


Builder = Callable[..., nn.Module]
WEIGHTS = [0.5, 0.75, 1.0, 1.25, 1.5]
NETWORK = [
    *(
        "MODEL.PANOPTIC_FPN.COMBINE.THINGS_FIRST",
        True,
        "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_FRACTION",
        0.03,
    ),
    *("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 0.25, "MODEL.RESNETS.NORM", "BN"),
]


def _stage2(build_tiny: Builder, path: Path, **model: Any) -> nn.Module:
    """Write what Stage 2 would, with `model` on top of what it says of its network; return the network."""
    network = build_tiny(*NETWORK, class_weights=WEIGHTS, use_drop_loss=True)
    stored = {
        "config": {"TRAINING": {"CLASS_WEIGHTING": True}},
        "model": {
            "model_config": "Panoptic-Cascade-Mask-R-CNN-Small.yaml",
            "model_overrides": [*TINY, *NETWORK],
            **model,
        },
        "working_size": [64, 96],
        "thing_pseudo_classes": [6, 4, 5],
        "stuff_pseudo_classes": [3, 0, 1, 2],
    }
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": stored}, path)
    return network


def _stage3(path: Path, *pairs: Any) -> Any:
    config = self_training_config(build_config(None, ["MODEL.CHECKPOINT", str(path), *pairs]))
    return build_self_training_module(config, Fit((128, 192), (128, 192), None))


def test_build_self_training_module__keeps_all_of_stage_two(build_tiny: Builder, tmp_path: Path) -> None:
    """What belongs to the network is the checkpoint's, what belongs to training the configuration's."""
    before = _stage2(build_tiny, tmp_path / "a.ckpt", class_weights=WEIGHTS)
    settings = ("SELF_TRAINING.DRAW_CLASSES", True, "SELF_TRAINING.USE_DROP_LOSS", True)
    settings += ("TRAINING.DROP_LOSS_IOU_THRESHOLD", 0.2)
    settings += ("MODEL.INFERENCE_CONFIDENCE_THRESHOLD", 0.3, "MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD", 0.6)
    module = _stage3(tmp_path / "a.ckpt", *settings, "TRAINING.LAYER_DECAY", 0.75)
    teacher = module.teacher_model.model
    for network in (module.model, teacher):
        assert network.sem_seg_head.class_weights.tolist() == WEIGHTS
        assert network.sem_seg_head.loss_weight == 0.25
        assert (network.combine_things_first, network.combine_stuff_area_fraction) == (True, 0.03)
        assert (network.roi_heads.use_drop_loss, network.roi_heads.drop_loss_iou) == (True, 0.2)
        assert network.roi_heads.box_predictor[-1].test_score_thresh == 0.3
        assert network.combine_instances_score_thresh == 0.3
        assert torch.equal(network.sem_seg_head.predictor.weight, before.sem_seg_head.predictor.weight)
        kinds = {type(part) for part in network.modules()}
        assert FrozenBatchNorm2d in kinds and nn.BatchNorm2d not in kinds
    assert (module.split.things, module.split.stuffs) == ((6, 4, 5), (3, 0, 1, 2))
    assert (module.schedule.threshold, module.settings.layer_decay) == (0.6, 0.75)
    assert module.draw_classes
    saved: dict[str, Any] = {}
    module.on_save_checkpoint(saved)
    assert saved["hyper_parameters"]["model"]["class_weights"] == WEIGHTS
    told = saved["hyper_parameters"]["model"]["architecture"]
    assert pairs_of([*TINY, *NETWORK]).items() <= told.items() and told.keys() == RULES.keys()
    assert saved["hyper_parameters"]["working_size"] == [128, 192], "of Stage 3's own images"


def test_build_self_training_module__edges_as_told_by_the_key(build_tiny: Builder, tmp_path: Path) -> None:
    """Both networks follow it, and so does whoever opens the checkpoint of Stage 3."""
    _stage2(build_tiny, tmp_path / "a.ckpt")
    module = _stage3(tmp_path / "a.ckpt", "MODEL.SNAP_TO_REGIONS", True)
    assert module.model.combine_snap_to_regions and module.teacher_model.model.combine_snap_to_regions
    saved: dict[str, Any] = {}
    module.on_save_checkpoint(saved)
    assert (
        saved["hyper_parameters"]["model"]["architecture"]["MODEL.PANOPTIC_FPN.COMBINE.SNAP_TO_REGIONS"]
        is True
    )


def test_described_model__is_that_of_stage_two(tmp_path: Path) -> None:
    """Stage 2 and Stage 3 of one configuration describe one network."""
    pairs = ["MODEL.OVERRIDES", ("MODEL.FPN.OUT_CHANNELS", 64), "MODEL.SNAP_TO_REGIONS", True]
    stage_two = described_network(build_config(None, pairs))
    checkpoint = Checkpoint(tmp_path / "a.ckpt", {}, {"model": stage_two})
    for value, expected in ((None, True), (True, True), (False, False)):
        told = described_model(checkpoint, build_config(None, ["MODEL.SNAP_TO_REGIONS", value]))
        assert told == {
            "architecture": {
                **stage_two["architecture"],
                "MODEL.PANOPTIC_FPN.COMBINE.SNAP_TO_REGIONS": expected,
            }
        }


def test_build_self_training_module__opens_what_earlier_versions_wrote(
    build_tiny: Builder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They held no class weights: the loss has none, and a warning says so."""
    _stage2(build_tiny, tmp_path / "a.ckpt")
    module = _stage3(tmp_path / "a.ckpt", "MODEL.OVERRIDES", ("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 2.0))
    assert module.model.sem_seg_head.class_weights is None
    assert "a.ckpt: was trained with class weights by a version that stored none" in caplog.text
    assert "MODEL.OVERRIDES MODEL.SEM_SEG_HEAD.LOSS_WEIGHT: no effect" in caplog.text
    assert module.model.sem_seg_head.loss_weight == 0.25


class _Patches(nn.Conv2d):
    """Stands in for a transformer."""

    patch_size, embed_dim = 16, 32

    def __init__(self) -> None:
        super().__init__(3, self.embed_dim, self.patch_size, self.patch_size)


@pytest.mark.parametrize("frozen", [True, False])
def test_build_self_training_module__a_transformer_stays_frozen_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    """The default of MODEL.FREEZE_BACKBONE does not freeze it again."""
    monkeypatch.setattr("cups.model.backbone_dinov2_vit.untrained_backbone", lambda name: _Patches())
    overrides = [*TINY, *cups.model.vit_overrides("dinov2_vits14", frozen, False)]
    stored = {"model_config": "Panoptic-Cascade-Mask-R-CNN-Small.yaml", "model_overrides": overrides}
    network = cups.model.panoptic_cascade_mask_r_cnn(THINGS, STUFFS + 1, **stored)
    content = {"state_dict": network.state_dict(), "hyper_parameters": {"model": stored}}
    torch.save(content, tmp_path / "a.ckpt")
    module = _stage3(tmp_path / "a.ckpt", "SELF_TRAINING.TRAINABLE", "all").train()
    trunk = module.model.backbone.extractor
    assert (trunk.training, trunk.weight.requires_grad) == (not frozen, not frozen)
