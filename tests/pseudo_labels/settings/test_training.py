"""What decides a training: by these settings a folder of an earlier run is told from another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from cups.errors import UserError
from pseudo_labels.settings.depth import DepthMapSettings, TrainDepthSettings
from pseudo_labels.settings.dinosaur import SlotInstanceSettings, TrainDinosaurSettings
from pseudo_labels.settings.refinement import (
    RefinedSettings,
    TrainJointRefineSettings,
    TrainRefineSettings,
)
from pseudo_labels.settings.training import LOADERS
from pseudo_labels.steps.flags import parse, settings_of

TRAINING = (
    "seed checkpoint_dir steps batch_size lr weight_decay clip precision num_gpus save_every log_every "
    "wandb_project "
)
BACKBONE = "backbone backbone_checkpoint "
NETWORK = "backbone model_dim patch_size query_nums dim_out dec_channels feedforward min_depth max_depth "
FEED = "height width crop_bottom "
REFINE = (
    "semantic_subdir features_subdir depth_subdir num_semantic_classes height crop channels "
    "smoothness_weight "
)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (
            TrainDepthSettings(),
            TRAINING + NETWORK + FEED + "offsets focal encoder_checkpoint pose_backbone pose_scale "
            "loss_strides smoothness_weight",
        ),
        (
            DepthMapSettings(),
            FEED + "min_depth max_depth source checkpoint_dir post_process precision",
        ),
        (
            TrainDinosaurSettings(),
            TRAINING
            + BACKBONE
            + " epochs crop standardize num_slots slot_dim iterations decoder_dim decoder_layers "
            "position_grid encode_position warm_up half_life decode_tokens",
        ),
        (
            SlotInstanceSettings(),
            "seed checkpoint "
            + BACKBONE
            + "semantic_subdir thing_classes method_name num_slots min_area dilation "
            "proposals min_thing_share",
        ),
        (TrainRefineSettings(), TRAINING + BACKBONE + REFINE),
        (
            TrainJointRefineSettings(),
            TRAINING + BACKBONE + REFINE + "instance_subdir embedding_dim boundary_weight embedding_weight",
        ),
        (
            RefinedSettings(checkpoint=Path("refine_net.pth")),
            "checkpoint "
            + BACKBONE
            + "semantic_subdir features_subdir depth_subdir name flip min_instance_area",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_settings__what_is_compared_with_an_earlier_run(settings: object, names: str) -> None:
    """One name more or less, and folders of earlier versions would be refused, or mixed with others."""
    assert set(settings_of(settings)) == set(names.split())


def test_trainings__defaults_of_each() -> None:
    chosen = ("steps", "batch_size", "lr", "clip", "num_workers")
    kinds = (TrainDepthSettings(), TrainDinosaurSettings(), TrainRefineSettings(), TrainJointRefineSettings())
    assert [tuple(getattr(kind, name) for name in chosen) for kind in kinds] == [
        (60000, 8, 1e-4, 0.0, LOADERS),
        (0, 16, 4e-4, 1.0, LOADERS),
        (1000, 8, 3e-4, 1.0, LOADERS),
        (1000, 8, 3e-4, 1.0, LOADERS),
    ]


def test_parse__pairs_take_two_numbers() -> None:
    (settings,) = parse(None, ["--crop", "0.5", "1", "--position_grid", "4", "8"], TrainDinosaurSettings)
    assert settings.crop == (0.5, 1.0) and settings.position_grid == (4, 8)
    for flags in (["--crop", "0.5"], ["--position_grid", "4", "8", "2"]):
        with pytest.raises(SystemExit):
            parse(None, flags, TrainDinosaurSettings)


def test_choices__hold_for_each_of_several_values() -> None:
    (settings,) = parse(None, ["--loss_strides", "4", "2", "1"], TrainDepthSettings)
    assert settings.loss_strides == (4, 2, 1)
    with pytest.raises(UserError, match="`loss_strides` 3: unknown; choose from 1, 2, 4, 8"):
        TrainDepthSettings(loss_strides=(4, 3))


@pytest.mark.parametrize("flag", ["--show", "--num_shards", "--shard", "--executor"])
def test_parse__trainings_have_no_flags_that_they_do_not_read(flag: str) -> None:
    with pytest.raises(SystemExit):
        parse(None, [flag, "1"], TrainRefineSettings)
