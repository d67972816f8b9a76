"""What a file says of a network is checked: it names no other file, and no size that is not in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cups
from cups.errors import UserError
from cups.io.checkpoint import STUFF_BIAS, THING_BIAS, load_checkpoint
from cups.io.png import write_png
from cups.model.architecture import RULES, SET_BY_THE_BUILDER
from cups.model.network_config import CONFIG_DIR, SHIPPED, load_config, stored_architecture
from tests.hostile.conftest import (
    BIASES,
    SCRIPTS,
    STUFFS,
    THINGS,
    hostile_pickle,
    main_of,
    python_tags,
    steps,
)


def said(path: Path, state: Mapping[str, torch.Tensor] = BIASES, **hyper_parameters: Any) -> Path:
    """Write a checkpoint of plain data that says something of its network."""
    torch.save({"state_dict": dict(state), "hyper_parameters": hyper_parameters}, path)
    return path


@pytest.mark.parametrize("form", ["absolute", "relative", "beside", "climbing", "of another kind"])
def test_checkpoint__a_yaml_that_it_names_is_not_opened(
    form: str,
    tmp_path: Path,
    marker: Path,
    photos: Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `model.ckpt` and `model.yaml` in one folder, opening the network ran the code of the YAML."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.yaml").write_text(python_tags(marker)[0])
    named: Any = {
        "absolute": str(tmp_path / "model.yaml"),
        "relative": "./model.yaml",
        "beside": "model.yaml",
        "climbing": f"../../..{tmp_path}/model.yaml",
        "of another kind": {"a": ["model.yaml"]},
    }[form]
    path = said(tmp_path / "model.ckpt", model={"model_config": named, "model_overrides": []})
    for script in ("predict", "val", "train_self"):
        assert "no file that a checkpoint names" in refused(SCRIPTS[script](path, photos), "model.ckpt")


HOSTILE_VALUES: Mapping[str, tuple[str, Any]] = {
    "downloads": ("MODEL.VIT.NAME", "hf-hub:someone/something"),
    "opens a folder": ("MODEL.VIT.NAME", "local-dir:/tmp/evil"),
    "opens a file": ("MODEL.VIT.NAME", "own:/tmp/evil.pth"),
    "another part of the registry": ("MODEL.BACKBONE.NAME", "build_p67_resnet_fpn_backbone"),
    "another network": ("MODEL.META_ARCHITECTURE", "DensePose"),
    "many channels": ("MODEL.FPN.OUT_CHANNELS", 10**9),
    "a huge number": ("MODEL.FPN.OUT_CHANNELS", 10**400),
    "many layers": ("MODEL.ROI_BOX_HEAD.NUM_FC", 10**6),
    "a fraction of layers": ("MODEL.RESNETS.DEPTH", 50.5),
    "text for a number": ("MODEL.FPN.OUT_CHANNELS", "__import__('os')"),
    "no number": ("MODEL.RPN.NMS_THRESH", float("nan")),
    "a long list": ("MODEL.ANCHOR_GENERATOR.SIZES", [[32]] * 10_000),
    "an unknown key": ("MODEL.NO_SUCH_KEY", 1),
    "a dunder": ("__class__.__init__", 1),
}


@pytest.mark.parametrize("case", HOSTILE_VALUES)
@pytest.mark.parametrize("form", ["architecture", "model_overrides"])
def test_checkpoint__values_out_of_their_range_are_refused(
    case: str, form: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    key, value = HOSTILE_VALUES[case]
    told: Any = {key: value} if form == "architecture" else [key, value]
    path = said(tmp_path / "model.ckpt", model={form: told})
    assert len(refused(lambda: cups.load(path), "model.ckpt")) < 600


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        ({THING_BIAS: torch.zeros(1).expand(10**9), STUFF_BIAS: torch.zeros(5)}, {}),
        ({THING_BIAS: torch.zeros(70_000), STUFF_BIAS: torch.zeros(5)}, {}),
        ({THING_BIAS: torch.zeros(3), STUFF_BIAS: torch.zeros(60_000)}, {}),
        (BIASES, {"model": {"architecture": {"MODEL.FPN.OUT_CHANNELS": 8192}}}),
        (BIASES, {"model": {"architecture": {"MODEL.FPN.IN_FEATURES": ["res2", "res2"]}}}),
        (BIASES, {"model": {"architecture": [1, 2]}}),
        (BIASES, {"model": {"architecture": {}, "class_weights": "many"}}),
        (BIASES, {"model": {"model_overrides": "MODEL.FPN.OUT_CHANNELS"}}),
    ],
)
def test_checkpoint__nothing_is_allocated_before_the_sizes_fit(
    state: Mapping[str, torch.Tensor],
    facts: Mapping[str, Any],
    tmp_path: Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = said(tmp_path / "model.ckpt", state, **facts)
    to_real = torch.nn.Module.to

    def to(module: torch.nn.Module, device: Any, *args: Any) -> Any:
        assert torch.device(device).type == "meta", "a network was built"
        return to_real(module, device, *args)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    refused(lambda: cups.load(path), "model.ckpt")


def test_checkpoint__sizes_and_classes_are_plain_numbers(tmp_path: Path) -> None:
    from cups.network import split_of, working_size_of
    from cups.structures import PseudoClasses

    pseudo = PseudoClasses(THINGS, STUFFS)
    for size in ([10**9, 10**9], [1, 10**6], [10**400, 1]):
        with pytest.raises(UserError, match=r"model\.ckpt"):
            working_size_of(load_checkpoint(said(tmp_path / "model.ckpt", working_size=size)))
    for classes in ("abc", [0, 1, "2"], [0, 0, 1], [0, 1, 10**9], [0, 1, torch.tensor(2)], {"a": 1}):
        path = said(tmp_path / "model.ckpt", thing_pseudo_classes=classes)
        with pytest.raises(UserError, match=r"model\.ckpt"):
            split_of(load_checkpoint(path), pseudo)


def test_architecture__has_every_key_that_building_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that it lacked would be one that no checkpoint keeps."""
    from detectron2.modeling import build_model
    from yacs.config import CfgNode

    read: set[str] = set()
    places: dict[int, str] = {}

    def name(node: CfgNode, above: str) -> None:
        places[id(node)] = above
        for key, value in node.items():
            if isinstance(value, CfgNode):
                name(value, f"{above}{key}.")

    def get(node: CfgNode, key: str) -> Any:
        if key not in node:
            raise AttributeError(key)
        if not isinstance(node[key], CfgNode):
            read.add(f"{places[id(node)]}{key}")
        return node[key]

    for config in ("Panoptic-Cascade-Mask-R-CNN.yaml", "Panoptic-Cascade-Mask-R-CNN-ViTB.yaml"):
        cfg = load_config(
            config, ["MODEL.DEVICE", "meta", "MODEL.RESNETS.NORM", "BN", "MODEL.FPN.NORM", "BN"]
        )
        name(cfg, "")
        with monkeypatch.context() as patch, torch.device("meta"):
            patch.setattr(CfgNode, "__getattr__", get)
            build_model(cfg)
    assert read - SET_BY_THE_BUILDER - {"VIS_PERIOD"} == RULES.keys() & read
    assert len(read) > 90


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_checkpoint__of_an_earlier_version_names_a_file_of_ours(name: str, tmp_path: Path) -> None:
    overrides = ["MODEL.FPN.OUT_CHANNELS", 64, "SOLVER.BASE_LR", 0.1]
    model = {"model_config": name, "model_overrides": overrides}
    found = stored_architecture(load_checkpoint(said(tmp_path / "model.ckpt", model=model)))
    again = stored_architecture(load_checkpoint(said(tmp_path / "new.ckpt", model={"architecture": found})))
    assert found == again and found.keys() == RULES.keys() and found["MODEL.FPN.OUT_CHANNELS"] == 64


def test_checkpoint__opens_with_the_yaml_that_the_user_gives(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    small = CONFIG_DIR / "Panoptic-Cascade-Mask-R-CNN-Small.yaml"
    own.write_text(f"_BASE_: {small}\nMODEL: {{FPN: {{OUT_CHANNELS: 32}}}}\n")
    checkpoint = load_checkpoint(said(tmp_path / "model.ckpt", model={"model_config": str(own)}))
    with pytest.raises(UserError, match=r"model\.ckpt: names the model config .*MODEL\.CONFIG"):
        stored_architecture(checkpoint)
    found = stored_architecture(checkpoint, own)
    assert (found["MODEL.FPN.OUT_CHANNELS"], found["MODEL.RESNETS.DEPTH"]) == (32, 18)


# The networks of Stage 1

NAMES_OF_EVIL = ("own:{place}", "hf-hub:a/b", "local-dir:{place}", "{place}", "../../{place}", 7, None)


def test_heads__a_backbone_that_their_settings_name_is_not_opened(
    tmp_path: Path, marker: Path, photos: Path, refused: Callable[..., str]
) -> None:
    hostile_pickle(tmp_path / "evil.pth", marker, "zip")
    for name in NAMES_OF_EVIL:
        told = name.format(place=tmp_path / "evil.pth") if isinstance(name, str) else name
        (tmp_path / "heads").mkdir(exist_ok=True)
        (tmp_path / "heads" / "settings.json").write_text(json.dumps({"backbone": told}))
        given = [*steps(photos, tmp_path / "root"), "--checkpoint_dir", tmp_path / "heads"]
        line = refused(main_of("pseudo_labels.generate_semantic_pseudolabels_cause", *given), "settings.json")
        assert "backbone" in line
        given += ["--features", "backbone", "--k", 2]
        refused(main_of("pseudo_labels.generate_overclustered_semantics", *given), "settings.json")


def test_depth__a_backbone_that_its_settings_name_is_not_looked_up(
    tmp_path: Path, photos: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timm.create_model", lambda *a, **b: pytest.fail("timm was asked"))
    for name in ("encoder.pth", "depth.pth"):
        torch.save({"a": torch.zeros(1)}, tmp_path / name)
    for name in ("hf-hub:a/b", "hf_hub:a/b", f"local-dir:{tmp_path}", "no_such_model", 7, ["resnet18"]):
        content = {"backbone": name, "dec_channels": [64, 48, 32, 24]}
        (tmp_path / "settings.json").write_text(json.dumps(content))
        given = [*steps(photos, tmp_path / "root"), "--checkpoint_dir", tmp_path]
        refused(main_of("pseudo_labels.generate_depth_spidepth", *given), "settings.json")
    with pytest.raises(UserError, match="`backbone` hf-hub:a/b"):
        from pseudo_labels.networks.depth_network import build_depth_network
        from pseudo_labels.settings.depth import DepthSettings

        build_depth_network(DepthSettings(backbone="hf-hub:a/b"))


SHAPE = {
    "feature_dim": 4,
    "grid": [2, 2],
    "num_slots": 2,
    "slot_dim": 4,
    "decoder_dim": 4,
    "decoder_layers": 1,
}


@pytest.fixture(scope="module")
def slots() -> dict[str, torch.Tensor]:
    from pseudo_labels.networks.dinosaur import Dinosaur

    return Dinosaur(**SHAPE).state_dict()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "told",
    [
        *({"backbone": name} for name in NAMES_OF_EVIL),
        {"backbone": "dinov2_vits14", "backbone_checkpoint": "{place}"},
        {"backbone": "dinov2_vits14", "shape": {**SHAPE, "feature_dim": 10**9}},
        {"backbone": "dinov2_vits14", "shape": {**SHAPE, "decoder_layers": 10**9}},
        {"backbone": "dinov2_vits14", "shape": {**SHAPE, "grid": [10**6, 10**6]}},
        {"backbone": "dinov2_vits14", "shape": "large"},
    ],
)
def test_slots__a_file_opens_no_other(
    told: dict[str, Any],
    slots: dict[str, torch.Tensor],
    tmp_path: Path,
    marker: Path,
    photos: Path,
    refused: Callable[..., str],
) -> None:
    place = hostile_pickle(tmp_path / "evil.pth", marker, "zip")
    told = {
        key: value.format(place=place) if isinstance(value, str) else value for key, value in told.items()
    }
    path = tmp_path / "dinosaur.pth"
    torch.save({"state_dict": slots, "settings": {"network": "Dinosaur", "shape": SHAPE, **told}}, path)
    refused(SCRIPTS["generate_dinosaur_instances"](path, photos), "dinosaur.pth")


@pytest.mark.parametrize(
    "told",
    [
        {"semantic_subdir": "../../etc"},
        {"depth_subdir": "/etc"},
        {"features_subdir": ".."},
        {"semantic_subdir": 7},
        {"height": 10**9},
        {"label_scale": float("inf")},
        {"backbone": "own:/tmp/evil"},
        {"backbone_checkpoint": "/tmp/evil.pth"},
    ],
)
def test_refinement__a_file_leads_to_no_other_place(
    told: dict[str, Any], tmp_path: Path, photos: Path, refused: Callable[..., str]
) -> None:
    from pseudo_labels.networks.refine_networks import save_network
    from pseudo_labels.refine_net import CSCMRefineNet

    shape = {"feature_dim": 4, "num_classes": 3, "channels": 4}
    settings = {"semantic_subdir": "s", "depth_subdir": "d", "features_subdir": "f", "backbone": "texton"}
    path = tmp_path / "refine_net.pth"
    content = {
        "shape": shape,
        **settings,
        "backbone_checkpoint": None,
        "height": 32,
        "label_scale": 1.0,
        **told,
    }
    save_network(path, CSCMRefineNet(**shape), content)
    refused(SCRIPTS["generate_refined_semantics"](path, photos), "refine_net.pth")


def test_coco_set__its_files_lie_within_its_folder(tmp_path: Path, refused: Callable[..., str]) -> None:
    from cups.labels.coco_sets import read_coco_set

    path = tmp_path / "set" / "panoptic.json"
    path.parent.mkdir()
    write_png(tmp_path / "secret.png", np.zeros((4, 4, 3), dtype=np.uint8))
    for file in ("../secret.png", str(tmp_path / "secret.png"), "a/../../secret.png"):
        entry = {"file_name": file, "segments_info": []}
        path.write_text(json.dumps({"categories": [], "annotations": [entry]}))
        assert "not within its folder" in refused(lambda: read_coco_set(path), "panoptic.json")
