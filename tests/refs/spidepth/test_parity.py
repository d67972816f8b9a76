"""SPIdepth's networks against the original implementation, and against the published file's names."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from refs.spidepth import SQLDepth


def _manifest(parity: Path, name: str) -> dict[str, list[int]]:
    return json.loads((parity / f"{name}.json").read_text())


def _shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in module.state_dict().items()}


def test_sql_depth__same_depth_as_the_original(parity: Path) -> None:
    filled = importlib.import_module("fill").filled_state_dict
    network = SQLDepth().eval()
    network.encoder.load_state_dict(filled("spidepth_convnextv2_atto_encoder.json"), strict=True)
    network.depth_decoder.load_state_dict(filled("spidepth_convnextv2_atto_depth.json"), strict=True)
    fixture = np.load(parity / "spidepth_convnextv2_atto.npz")
    size = (1, 3, int(fixture["height"]), int(fixture["width"]))
    images = torch.from_numpy(np.random.RandomState(int(fixture["seed"])).rand(*size)).float()
    with torch.no_grad():
        assert network.encoder(images).std().item() == pytest.approx(float(fixture["encoder_std"]), rel=1e-5)
        depth = network(images)
    np.testing.assert_allclose(depth[0, 0].numpy(), fixture["depth"], rtol=1e-4)


def test_sql_depth__names_of_the_published_weights(parity: Path) -> None:
    with torch.device("meta"):
        network = SQLDepth("convnextv2_huge", patch_size=32, dec_channels=(1024, 512, 256, 128))
    assert _shapes(network.encoder) == _manifest(parity, "spidepth_convnextv2_huge_encoder")
    assert _shapes(network.depth_decoder) == _manifest(parity, "spidepth_convnextv2_huge_depth")
