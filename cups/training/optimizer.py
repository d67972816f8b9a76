"""Optimiser, its parameter groups and the learning-rate schedule."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cups.training.choices import Decay, OptimizerName

NORM_LAYERS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
TRANSFORMER = "backbone.extractor.network."
TOKENS = ("pos_embed", "cls_token", "reg_token", "mask_token")


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW or SGD with linear warm-up and an optional cosine decay to zero.

    CUPS starts from a DINO backbone and needs neither: `warmup_steps=0`, `decay="constant"`.
    """

    name: OptimizerName
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    momentum: float
    warmup_steps: int
    decay: Decay
    steps: int
    layer_decay: float

    def factor(self, step: int) -> float:
        """Return the learning rate at `step`, relative to `learning_rate`."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "constant":
            return warm
        progress = min(1.0, step / max(1, self.steps))
        return warm * 0.5 * (1.0 + float(torch.cos(torch.tensor(progress * torch.pi))))


def layer_factors(names: Sequence[str], layer_decay: float) -> list[float]:
    """Return the learning-rate factor of each parameter by its name (Bao et al., BEiT, ICLR 2022, appendix).

    Everything outside a transformer has 1. Inside, the last norm has `layer_decay`, the last of n blocks its
    square, and so on down to the embeddings with `layer_decay` ** (n + 2).
    """
    numbers = [_block(name) for name in names]
    blocks = max((number for number in numbers if number is not None), default=-1) + 1
    factors = []
    for name, number in zip(names, numbers, strict=True):
        if not name.startswith(TRANSFORMER):
            factors.append(1.0)
        elif number is not None:
            factors.append(layer_decay ** (blocks - number + 1))
        else:
            last = name.startswith(TRANSFORMER + "norm.")
            factors.append(layer_decay if last else layer_decay ** (blocks + 2))
    return factors


def _block(name: str) -> int | None:
    found = re.match(re.escape(TRANSFORMER) + r"blocks\.(\d+)\.", name)
    return int(found.group(1)) if found else None


def _undecayed(model: nn.Module) -> set[int]:
    """Return the ids of parameters without weight decay: norms; of a transformer also biases and tokens."""
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, NORM_LAYERS)
        for parameter in module.parameters(recurse=False)
    }
    return norms | {
        id(parameter)
        for name, parameter in model.named_parameters()
        if name.startswith(TRANSFORMER) and (parameter.ndim <= 1 or name.endswith(TOKENS))
    }


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Group trainable parameters by weight decay (norms have none) and, with `layer_decay`, learning rate."""
    trainable = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    undecayed = _undecayed(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    factors = layer_factors([name for name, _ in trainable], layer_decay)
    for (_, parameter), factor in zip(trainable, factors, strict=True):
        groups[factor, 0.0 if id(parameter) in undecayed else weight_decay].append(parameter)
    return [
        {"params": parameters, "lr": factor * learning_rate, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Build the optimiser over `parameter_groups`."""
    groups = parameter_groups(model, settings.learning_rate, settings.weight_decay, settings.layer_decay)
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    # On a CPU, one pass over the weights instead of a dozen.
    fused = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
    optimizer = torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=settings.betas, fused=fused or None
    )
    if fused:
        # Lightning would refuse to clip: fused ones may undo the scaling of gradients, which CPUs have not.
        optimizer._step_supports_amp_scaling = False
    return optimizer


def other_parameters(optimizer: torch.optim.Optimizer, states: Sequence[Mapping[str, Any]]) -> str:
    """Return in a few words how the saved states of optimisers do not fit one; empty where they do."""
    for state in states:
        saved, own = state.get("param_groups", ()), optimizer.param_groups
        sizes = [[len(group["params"]) for group in groups] for groups in (saved, own)]
        if sizes[0] != sizes[1]:
            then, now = (f"{sum(counts)} tensors in {len(counts)} groups" for counts in sizes)
            return f"its optimiser trains {then}, now it is {now}"
        kinds = [_kind(groups) for groups in (saved, own)]
        if kinds[0] != kinds[1]:
            return f"its optimiser is {kinds[0]}, now it is {kinds[1]}"
    return ""


def _kind(groups: Sequence[Mapping[str, Any]]) -> str:
    return "adamw" if any("betas" in group for group in groups) else "sgd"
