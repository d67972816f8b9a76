"""Optimiser, its parameter groups and the learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

NORM_LAYERS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW or SGD with linear warm-up and an optional cosine decay to zero.

    CUPS starts from a DINO backbone and needs neither: `warmup_steps=0`, `decay="constant"`.
    """

    name: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    warmup_steps: int = 0
    decay: str = "constant"
    steps: int = 4000

    def factor(self, step: int) -> float:
        """Return the learning rate at `step`, relative to `learning_rate`."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.decay == "constant":
            return warm
        progress = min(1.0, step / max(1, self.steps))
        return warm * 0.5 * (1.0 + float(torch.cos(torch.tensor(progress * torch.pi))))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters in two groups: normalisation layers without weight decay, the rest with."""
    norm = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, NORM_LAYERS)
        for parameter in module.parameters(recurse=False)
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if id(p) not in norm], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in norm], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Build the optimiser over `parameter_groups`."""
    groups = parameter_groups(model, settings.weight_decay)
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)
