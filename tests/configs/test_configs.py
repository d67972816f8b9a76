"""The shipped configs: complete, valid, nothing said twice, and what their names promise."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from yacs.config import CfgNode

from cups.builders.stage2 import network_of
from cups.config import BASE_KEY, build_config
from cups.config_keys import get, leaf_keys
from cups.model.model import load_config

FOLDER = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(file for kind in ("train", "val") for file in FOLDER.glob(f"{kind}_*.yaml"))
by_name = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def config(name: str) -> CfgNode:
    return build_config(FOLDER / f"{name}.yaml")


def effective_batch(name: str) -> int:
    """Return the samples per optimisation step over all GPUs."""
    tree = config(name)
    training, system = tree.TRAINING, tree.SYSTEM
    return training.BATCH_SIZE * training.ACCUMULATE_GRAD_BATCHES * system.NUM_GPUS * system.NUM_NODES


def test_configs__those_of_the_readme_are_there() -> None:
    versions = ("", "_resnet50_v4", "_resnet50_k50", "_vitb", "_vitb_v3", "_vitb_v4", "_vitb_v5")
    names = {f"train_cityscapes{version}" for version in versions}
    names |= {"train_self_cityscapes", "train_self_cityscapes_vitb_local", "train_hybrid_local"}
    assert names | {"val_cityscapes", "val_kitti"} <= {file.stem for file in FILES}


@by_name
def test_configs__header_says_what_for_and_which_hardware(file: Path) -> None:
    comment = file.read_text().split("\n\n")[0]
    header = [line for line in comment.splitlines() if line.startswith("#")]
    assert len(header) >= 2 and any("GPU" in line for line in header)


@by_name
def test_configs__no_value_of_the_base_or_the_defaults_is_repeated(file: Path) -> None:
    tree = yaml.safe_load(file.read_text())
    base = tree.pop(BASE_KEY, None)
    inherited, resolved = build_config(base and FOLDER / base), build_config(file)
    keys = list(leaf_keys(CfgNode(tree)))
    assert keys or base, "an empty config without a base says nothing"
    assert [key for key in keys if get(inherited, key) == get(resolved, key)] == []


@by_name
def test_configs__the_model_they_name_exists(file: Path) -> None:
    network = network_of(build_config(file))
    load_config(network["model_config"], network["model_overrides"])


@pytest.mark.parametrize(
    "name", [f.stem for f in FILES if any(part in f.stem for part in ("local", "vitb", "resnet50"))]
)
def test_configs__effective_batch_of_sixteen(name: str) -> None:
    """Whatever the GPUs: one learning rate serves all recipes."""
    assert effective_batch(name) == 16


@pytest.mark.parametrize("name", [file.stem for file in FILES if "vitb" in file.stem])
def test_configs__transformers_are_frozen(name: str) -> None:
    model = config(name).MODEL
    assert (model.BACKBONE_TYPE, model.FREEZE_BACKBONE) == ("dinov2_vitb14", True)


@pytest.mark.parametrize(
    ("name", "labels"),
    [("resnet50_k50", "cups_pseudo_labels_k50"), ("vitb", "cups_pseudo_labels_cause27")]
    + [(name, "cups_pseudo_labels") for name in ("resnet50_v4", "vitb_v3", "vitb_v4", "vitb_v5")],
)
def test_configs__labels(name: str, labels: str) -> None:
    assert Path(config(f"train_cityscapes_{name}").DATA.ROOT_PSEUDO).name == labels


def test_configs__stage3_follows_stage2() -> None:
    """CUPS: rate 1e-5, instances above 0.7 rising by 0.05, 3 rounds of 500 steps, full resolution."""
    for name in ("train_self_cityscapes", "train_hybrid_local", "train_self_cityscapes_vitb_local"):
        keys = config(name).SELF_TRAINING
        assert (keys.LEARNING_RATE, keys.ROUNDS, keys.ROUND_STEPS) == (1e-5, 3, 500)
        assert (keys.CONFIDENCE_STEP, keys.USE_TTA) == (0.05, True)
        assert config(name).MODEL.TTA_INFERENCE_CONFIDENCE_THRESHOLD == 0.7
    assert tuple(config("train_self_cityscapes").SELF_TRAINING.CROP_RESOLUTION) == (1024, 2048)


def test_train_cityscapes__is_the_published_recipe() -> None:
    """Values of CUPS's own configuration."""
    tree = config("train_cityscapes")
    training, data, augmentation = tree.TRAINING, tree.DATA, tree.AUGMENTATION
    assert (training.STEPS, training.BATCH_SIZE, training.OPTIMIZER) == (8000, 16, "adamw")
    assert (training.ADAMW.LEARNING_RATE, training.ADAMW.WEIGHT_DECAY) == (1e-4, 1e-5)
    assert (training.WARMUP_STEPS, training.DECAY, training.GRADIENT_CLIP_VAL) == (0, "constant", 1.0)
    assert (training.DROP_LOSS, training.DROP_LOSS_IOU_THRESHOLD) == (True, 0.4)
    assert (tuple(data.CROP_RESOLUTION), data.SCALE, data.THING_STUFF_THRESHOLD) == ((640, 1280), 0.625, 0.08)
    assert (augmentation.NUM_STEPS_STARTUP, augmentation.CONFIDENCE) == (1000, 0.75)


def test_val__protocols() -> None:
    cityscapes, kitti = config("val_cityscapes"), config("val_kitti")
    assert (cityscapes.DATA.DATASET, cityscapes.DATA.VAL_SCALE, cityscapes.DATA.NUM_CLASSES) == (
        "cityscapes", 1.0, 19,
    )  # fmt: skip
    assert tuple(kitti.DATA.VAL_CROP_RESOLUTION) == (368, 1240) and kitti.DATA.DATASET == "kitti"
