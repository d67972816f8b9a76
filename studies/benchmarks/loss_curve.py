"""The losses of a short Stage 2 in bfloat16 beside those in float32."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from studies.benchmarks.settings import TrainStepSettings
from studies.benchmarks.train_step import draw_batch, losses_of, our_network

IMAGES = 64
"""Batches repeat after so many images, or nothing could be learned of them in a few hundred steps."""
LEARNING_RATE = 3e-4


def losses(model: nn.Module, settings: TrainStepSettings, steps: int, draws: int = 0) -> list[float]:
    """Train a network and return the loss of each step; `draws` seeds which regions it learns from."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    values = []
    for step in range(steps):
        batch = draw_batch(settings, step % max(1, IMAGES // settings.batch_size))
        torch.manual_seed(1_000_003 * draws + step)
        optimizer.zero_grad()
        loss = torch.stack(list(losses_of(model, batch, settings).values())).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        values.append(loss.detach())
    curve: list[float] = torch.stack(values).tolist()
    return curve


def distance(first: list[float], second: list[float]) -> float:
    """Return the mean absolute difference of two curves."""
    return sum(abs(a - b) for a, b in zip(first, second, strict=True)) / len(first)


def end(curve: list[float]) -> float:
    """Return the mean of the last tenth of a curve."""
    last = curve[-max(1, len(curve) // 10) :]
    return sum(last) / len(last)


def curves(settings: TrainStepSettings, steps: int) -> dict[str, Any]:
    """Train three times from the same weights on the same images.

    Returns:
        The curves, and how far bfloat16 lies from float32. The yardstick is float32 that draws other regions:
        numbers that round differently lead to other draws as well.
    """
    start = our_network(settings)
    wide, narrow = (replace(settings, precision=name) for name in ("fp32", "bf16"))
    fp32 = losses(deepcopy(start), wide, steps)
    bf16 = losses(deepcopy(start), narrow, steps)
    other = losses(start, wide, steps, draws=1)
    return {
        "difference": distance(fp32, bf16),
        "yardstick": distance(fp32, other),
        "final": {"fp32": end(fp32), "bf16": end(bf16), "fp32, other draws": end(other)},
        "curves": {"fp32": fp32, "bf16": bf16, "fp32, other draws": other},
    }
