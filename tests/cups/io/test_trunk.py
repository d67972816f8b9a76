"""Weights of a backbone alone reach the trunk, every tensor or none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cups.errors import UserError
from cups.io.trunk import load_trunk, match_suffixes
from cups.model import panoptic_cascade_mask_r_cnn

NARROW = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.ROI_BOX_HEAD.FC_DIM", 16)


def build(**more: Any) -> nn.Module:
    return panoptic_cascade_mask_r_cnn(2, 4, model_overrides=NARROW, **more)


def torchvision_name(name: str) -> str:
    name = name.replace("stem.conv1.norm", "bn1").replace("stem.conv1", "conv1")
    for stage in range(2, 6):
        name = name.replace(f"res{stage}.", f"layer{stage - 1}.")
    for conv in "123":
        name = name.replace(f".conv{conv}.norm.", f".bn{conv}.")
    return name.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")


@pytest.fixture(scope="module")
def trunk() -> dict[str, torch.Tensor]:
    prefix = "backbone.bottom_up."
    generator = torch.Generator().manual_seed(5)
    return {
        name.removeprefix(prefix): torch.rand(value.shape, generator=generator)
        if value.is_floating_point()
        else value
        for name, value in build().state_dict().items()
        if name.startswith(prefix)
    }


def assert_trunk_loaded(model: nn.Module, trunk: dict[str, torch.Tensor]) -> None:
    state = model.state_dict()
    for name, value in trunk.items():
        assert torch.equal(state[f"backbone.bottom_up.{name}"], value), name


def test_load_trunk__detectron2_pickle(tmp_path: Path, trunk: dict[str, torch.Tensor]) -> None:
    arrays = {name: value.numpy() for name, value in trunk.items()}
    path = tmp_path / "dino_RN50_pretrain_d2_format.pkl"
    content = {
        "model": {**arrays, "fc.weight": np.ones(3)},
        "__author__": "DINO",
        "matching_heuristics": True,
    }
    path.write_bytes(pickle.dumps(content, protocol=2))
    model = build(backbone_checkpoint=path)
    assert_trunk_loaded(model, trunk)


@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
def test_load_trunk__torchvision_names(tmp_path: Path, trunk: dict[str, torch.Tensor], prefix: str) -> None:
    path = tmp_path / "dino_resnet50_pretrain.pth"
    state = {prefix + torchvision_name(name): value for name, value in trunk.items()}
    assert f"{prefix}layer1.0.bn1.weight" in state and f"{prefix}layer2.0.downsample.1.bias" in state
    torch.save({**state, f"{prefix}fc.weight": torch.ones(2), "head.weight": torch.ones(2)}, path)
    model = build()
    load_trunk(model, path)
    assert_trunk_loaded(model, trunk)


def test_load_trunk__incomplete_or_wrong_weights_are_refused(
    tmp_path: Path, trunk: dict[str, torch.Tensor]
) -> None:
    """Upstream left whatever did not match at random values, silently."""
    path = tmp_path / "partial.pth"
    torch.save({name: value for name, value in trunk.items() if not name.startswith("res5")}, path)
    with pytest.raises(UserError, match=r"partial\.pth: does not fit the network's ResNet"):
        load_trunk(build(), path)


def test_match_suffixes__the_longest_wins() -> None:
    source = {"conv1.weight": torch.zeros(1), "res2.0.conv1.weight": torch.ones(1)}
    names = ["backbone.bottom_up.res2.0.conv1.weight", "backbone.bottom_up.stem.conv1.weight", "fpn.bias"]
    assert {name: float(value) for name, value in match_suffixes(names, source).items()} == {
        names[0]: 1.0,
        names[1]: 0.0,
    }
