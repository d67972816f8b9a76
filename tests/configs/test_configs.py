"""The shipped configs: complete, valid, nothing said twice, and what their names promise."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from yacs.config import CfgNode

from cups import defaults
from cups.builders.stage2 import network_of
from cups.builders.stage3 import self_training_config
from cups.builders.trainer import recipe_of
from cups.config import BASE_KEY, build_config, flatten, inheritance
from cups.config_keys import get
from cups.model.model import load_config
from cups.training.recipe import CUPS_STAGE2, CUPS_STAGE3

FOLDER = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(file for kind in ("train", "val") for file in FOLDER.glob(f"{kind}_*.yaml"))
by_name = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def config(name: str) -> CfgNode:
    return build_config(FOLDER / f"{name}.yaml")


def bases_of(file: Path) -> list[Path]:
    """Return the files that a config names as its bases."""
    bases = yaml.safe_load(file.read_text()).get(BASE_KEY, [])
    return [(file.parent / base).resolve() for base in ([bases] if isinstance(bases, str) else bases)]


def values_of(file: Path) -> dict[str, Any]:
    """Return what a config sets itself, by dotted key."""
    tree = yaml.safe_load(file.read_text())
    return {key: value for key, value in flatten(tree) if key != BASE_KEY}


def lineage(file: Path) -> list[Path]:
    """Return a config and all files above it."""
    return [file, *(above for base in bases_of(file) for above in lineage(base))]


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
def test_configs__no_value_of_the_base_or_the_defaults_is_repeated(file: Path, tmp_path: Path) -> None:
    bases, own = bases_of(file), values_of(file)
    (tmp_path / "bases.yaml").write_text(yaml.safe_dump({BASE_KEY: [str(base) for base in bases]}))
    inherited, resolved = build_config(tmp_path / "bases.yaml"), build_config(file)
    assert own or bases, "an empty config without a base says nothing"
    assert [key for key in own if get(inherited, key) == get(resolved, key)] == []


EVERY = sorted(FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("file", EVERY, ids=lambda file: file.stem)
def test_configs__inheritance_is_at_most_three_deep(file: Path) -> None:
    """It was seven, and who read a ViT recipe had to go through the ResNet's."""
    assert inheritance(file) <= 3


@pytest.mark.parametrize("file", EVERY, ids=lambda file: file.stem)
def test_configs__recipes_inherit_from_bases_only(file: Path) -> None:
    """A recipe is no base of another; evaluations and toys may vary one of their kind, small ones a toy."""
    kind = file.stem.partition("_")[0]
    toys = dict.fromkeys(("ceiling", "label", "own"), "demo_toy")
    allowed = {"val": "val_cityscapes", **toys}.get(kind)
    assert all(base.parent == FOLDER / "bases" or base.stem == allowed for base in bases_of(file))


@pytest.mark.parametrize("file", sorted((FOLDER / "bases").glob("*.yaml")), ids=lambda file: file.stem)
def test_configs__bases_are_named_for_what_they_hold(file: Path) -> None:
    """A backbone's base sets a backbone, a recipe's base none; and each has a user."""
    assert file.stem.startswith("recipe_") != ("MODEL.BACKBONE_TYPE" in values_of(file))
    if not file.stem.startswith("recipe_"):
        assert file.stem in values_of(file)["MODEL.BACKBONE_TYPE"]
    assert any(file in bases_of(other) for other in EVERY)


@by_name
def test_configs__no_transformer_inherits_from_a_resnet(file: Path) -> None:
    named = [part for part in lineage(file) if "resnet" in part.stem]
    assert not named or config(file.stem).MODEL.BACKBONE_TYPE == "resnet50"


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


@pytest.mark.parametrize("name", [file.stem for file in FOLDER.glob("*.yaml") if "val" not in file.stem])
def test_configs__header_says_how_many_images_a_step_sees(name: str) -> None:
    """The number that decides what a run costs and reaches stood in none; CUPS's is 64."""
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    header = " ".join(line[1:].strip() for line in takewhile(lambda line: line.startswith("#"), lines))
    assert f"{effective_batch(name)} images" in header
    assert re.search(r"CUPS.*\b64\b|\b64\b.*CUPS", header) and "step" in header


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
    """Where the first description's conversions write; all others are told by `pseudo_root`."""
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
    assert (tuple(data.CROP_RESOLUTION), data.SCALE) == ((640, 1280), 0.625)
    assert data.THING_STUFF_THRESHOLD is None and defaults.THING_STUFF_THRESHOLD == 0.08
    assert (augmentation.NUM_STEPS_STARTUP, augmentation.CONFIDENCE) == (1000, 0.75)
    assert (augmentation.BLUR_PROBABILITY, augmentation.MAX_NUM_PASTED_OBJECTS) == (1.0, 8)
    assert len(augmentation.RESOLUTIONS) == 11
    cups_gpus = CUPS_STAGE2.gpus
    assert recipe_of(tree, "Stage 2", cups_gpus) == CUPS_STAGE2
    stage3 = self_training_config(config("train_self_cityscapes"), Path("a.ckpt"))
    assert recipe_of(stage3, "Stage 3", cups_gpus) == CUPS_STAGE3
    keys = stage3.SELF_TRAINING
    assert (keys.SEMANTIC_SEGMENTATION_THRESHOLD, keys.EMA_MOMENTUM, keys.TRAINABLE) == (0.5, 0.999, "heads")
    assert (tuple(keys.CROP_HEIGHTS), keys.USE_DROP_LOSS) == ((0.5, 1.0), False)


def test_val__protocols() -> None:
    cityscapes, kitti = config("val_cityscapes"), config("val_kitti")
    assert (cityscapes.DATA.DATASET, cityscapes.DATA.VAL_SCALE, cityscapes.DATA.NUM_CLASSES) == (
        "cityscapes", 1.0, 19,
    )  # fmt: skip
    assert tuple(kitti.DATA.VAL_CROP_RESOLUTION) == (368, 1240) and kitti.DATA.DATASET == "kitti"
