"""The depth network on disk: what is written can be read, and what does not fit is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cups.errors import UserError
from cups.io.weights import weight_files
from pseudo_labels.networks.depth_network import (
    build_depth_network,
    infer,
    load_depth_network,
    save_depth_network,
)
from pseudo_labels.settings.depth import DepthSettings

SMALL = DepthSettings(
    backbone="resnet18",
    patch_size=8,
    query_nums=8,
    dec_channels=(16, 16, 8, 8),
    feedforward=512,
    max_depth=40.0,
    height=64,
    width=96,
    crop_bottom=0.0,
)


@pytest.fixture(scope="module")
def folder(make_folder: Callable[[str], Path]) -> Path:
    folder = make_folder("depth")
    torch.manual_seed(0)
    save_depth_network(folder, build_depth_network(SMALL), None, SMALL)
    return folder


def _copy(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_save__published_form(folder: Path) -> None:
    encoder = torch.load(folder / "encoder.pth", weights_only=True)
    assert [encoder[key] for key in ("height", "width", "use_stereo")] == [64, 96, False]


def test_load__settings_and_depth_come_back(folder: Path) -> None:
    torch.manual_seed(0)
    original = build_depth_network(SMALL).eval()
    network, settings = load_depth_network(folder)
    assert settings == SMALL
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(network(images), original(images))


def test_load__half_precision_files_run_in_float32(folder: Path, tmp_path: Path) -> None:
    copied = _copy(folder, tmp_path / "half")
    state = torch.load(copied / "depth.pth", weights_only=True)
    torch.save({key: value.half() for key, value in state.items()}, copied / "depth.pth")
    network, _ = load_depth_network(copied)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_load__flags_override(folder: Path) -> None:
    _, settings = load_depth_network(folder, max_depth=10.0, height=None, width=128)
    assert settings == replace(SMALL, max_depth=10.0, width=128)


def test_infer__shapes_tell_the_published_model() -> None:
    with torch.device("meta"):
        network = build_depth_network(DepthSettings())
    encoder: dict[str, Any] = {**network.encoder.state_dict(), "height": 320, "width": 1024}
    depth = network.depth_decoder.state_dict()
    place = weight_files("spidepth_kitti")[0].path.parent
    assert infer(encoder, depth, place.parent / "other") == DepthSettings()
    assert infer(encoder, depth, place) == DepthSettings(crop_bottom=0.0), "KITTI frames show no bonnet"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"height": 0}, "`height` 0: must be at least 1"),
        ({"width": "wide"}, "`width` wide: must be"),
        ({"model_dim": 30}, "`model_dim` 30: must be a multiple of 4"),
        ({"dec_channels": [16, 16, 8]}, "`dec_channels` .*four"),
        ({"crop_bottom": 1.0}, "`crop_bottom` 1.0"),
        ({"max_depth": 1e6}, "`max_depth` 1000000.0: must be at most 65504"),
        ({"patch_size": 32}, "patches of 32 give 1 tokens, fewer than `query_nums` 8"),
        ({"backbone": "resnet_eighteen"}, "settings.json: names the backbone resnet_eighteen"),
        ({"backbone": "resnet34"}, "encoder.pth: weights of another network"),
        ({"dim_out": 32}, "depth.pth: weights of another network"),
        ({"colour": "red"}, "settings.json: no settings of a depth network"),
    ],
)
def test_load__wrong_settings(folder: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    copied = _copy(folder, tmp_path / "copied")
    settings = json.loads((copied / "settings.json").read_text())
    (copied / "settings.json").write_text(json.dumps({**settings, **changed}))
    with pytest.raises(UserError, match=message):
        load_depth_network(copied)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_load__damaged_settings(folder: Path, tmp_path: Path, text: str) -> None:
    copied = _copy(folder, tmp_path / "copied")
    (copied / "settings.json").write_text(text)
    with pytest.raises(UserError, match=r"settings\.json"):
        load_depth_network(copied)


def test_load__resnet_without_settings(folder: Path, tmp_path: Path) -> None:
    copied = _copy(folder, tmp_path / "copied")
    (copied / "settings.json").unlink()
    with pytest.raises(UserError, match=r"no settings\.json"):
        load_depth_network(copied)
