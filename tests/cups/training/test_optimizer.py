"""Parameter groups, schedules, and the learning rates of a transformer's layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn

from cups.builders.stage2 import optimizer_settings
from cups.config import build_config
from cups.training.optimizer import build_optimizer, layer_factors, other_parameters, parameter_groups

DEFAULT = optimizer_settings(build_config())


def test_parameter_groups__norm_layers_have_no_weight_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.GroupNorm(8, 32), nn.BatchNorm2d(32), nn.Linear(2, 2))
    model[3].bias.requires_grad = False
    decayed, plain = parameter_groups(model, 0.01, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in plain["params"]} == {id(p) for layer in model[1:3] for p in layer.parameters()}
    assert len(decayed["params"]) == 3


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_build_optimizer__kind_and_rate(name: str, kind: type) -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), replace(DEFAULT, name=name, learning_rate=0.3))
    assert isinstance(optimizer, kind)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_build_optimizer__one_pass_on_a_cpu_equals_adamw_and_may_be_clipped() -> None:
    """Lightning refuses to clip where it believes that the optimiser undoes the scaling of gradients."""
    settings = replace(DEFAULT, learning_rate=0.01, weight_decay=0.1)
    fused, plain = nn.Linear(40, 30), nn.Linear(40, 30)
    plain.load_state_dict(fused.state_dict())
    optimizers = (
        build_optimizer(fused, settings),
        torch.optim.AdamW(parameter_groups(plain, 0.01, 0.1), lr=0.01, betas=settings.betas),
    )
    assert optimizers[0].param_groups[0]["fused"]
    for step in range(5):
        inputs = torch.randn(8, 40, generator=torch.Generator().manual_seed(step))
        for layer, optimizer in zip((fused, plain), optimizers, strict=True):
            optimizer.zero_grad()
            layer(inputs).square().sum().backward()
            MixedPrecision("bf16-mixed", "cpu").clip_gradients(optimizer, 1.0)
            optimizer.step()
    torch.testing.assert_close(fused.state_dict(), plain.state_dict(), rtol=1e-6, atol=1e-7)
    other = build_optimizer(nn.Linear(2, 2, device="meta"), settings)
    assert not other.param_groups[0]["fused"]


def test_factor__constant_like_upstream_or_warm_up_and_cosine() -> None:
    assert [DEFAULT.factor(step) for step in (0, 10, 3999)] == [1.0, 1.0, 1.0]
    settings = replace(DEFAULT, warmup_steps=4, decay="cosine", steps=100)
    assert settings.factor(0) == pytest.approx(0.25)
    assert settings.factor(50) == pytest.approx(0.5)
    assert settings.factor(100) == pytest.approx(0.0, abs=1e-6)


def test_layer_factors__fall_from_the_last_norm_to_the_embeddings() -> None:
    inside = (
        "patch_embed.proj.weight",
        "pos_embed",
        "blocks.0.attn.qkv.weight",
        "blocks.1.norm1.bias",
        "norm.bias",
    )
    names = [*(f"backbone.extractor.network.{name}" for name in inside), "backbone.levels.0.0.weight"]
    names.append("roi_heads.blocks.7.weight")
    assert layer_factors(names, 0.5) == [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 1.0]
    assert set(layer_factors(names, 1.0)) == {1.0}


class _Transformer(nn.Module):
    """The names that matter, under `backbone.extractor.network`."""

    def __init__(self) -> None:
        super().__init__()
        network = nn.Module()
        network.pos_embed = nn.Parameter(torch.zeros(1, 4, 2))
        network.blocks = nn.ModuleList([nn.Linear(2, 2)])
        self.backbone = nn.Module()
        self.backbone.extractor = nn.Module()
        self.backbone.extractor.network = network
        self.box_head = nn.Linear(2, 2)


def test_build_optimizer__transformer_learns_slower_and_its_tokens_and_biases_do_not_decay() -> None:
    model = _Transformer()
    settings = replace(DEFAULT, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in build_optimizer(model, settings).param_groups
        for parameter in group["params"]
    }
    network = model.backbone.extractor.network
    assert found[id(network.pos_embed)] == (0.125, 0.0)
    assert found[id(network.blocks[0].weight)] == (0.25, 0.1)
    assert found[id(network.blocks[0].bias)] == (0.25, 0.0)
    assert found[id(model.box_head.weight)] == (1.0, 0.1)
    assert found[id(model.box_head.bias)] == (1.0, 0.1), "heads decay as upstream's"


def test_other_parameters__another_kind_or_other_tensors_are_told() -> None:
    """Resumed with SGD for AdamW, the first step ended in KeyError: 'betas'."""
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    adam = torch.optim.AdamW(parameter_groups(layers, 1e-3, 1e-2))
    sgd = torch.optim.SGD(parameter_groups(layers, 1e-3, 1e-2), momentum=0.9)
    assert other_parameters(adam, [adam.state_dict()]) == other_parameters(adam, []) == ""
    assert other_parameters(sgd, [adam.state_dict()]) == "its optimiser is adamw, now it is sgd"
    layers[0].requires_grad_(False)
    fewer = torch.optim.AdamW(parameter_groups(layers, 1e-3, 1e-2))
    told = "its optimiser trains 4 tensors in 2 groups, now it is 2 tensors in 1 groups"
    assert other_parameters(fewer, [adam.state_dict()]) == told
