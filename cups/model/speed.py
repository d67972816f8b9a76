"""Ways to compute the same network faster on some machines; `benchmarks/train_step.py` measures them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def set_speed(model: nn.Module, *, channels_last: bool, compile_trunk: bool) -> nn.Module:
    """Change how a panoptic network is computed, in place; weights and their names stay as they are.

    Args:
        model: network with a `backbone`.
        channels_last: keep the channels of a pixel together in memory. Tensor cores of GPUs want it; on CPUs
            it made training steps 2 % slower or faster, within what other work on the machine did.
        compile_trunk: compile the backbone (`torch.compile`) at its first use, once for each image size at
            first, then for all sizes. The heads stay as they are: their shapes change with every image.
    """
    if channels_last:
        # torch's stubs know no memory format without a tensor.
        to: Any = model.to
        to(memory_format=torch.channels_last)
    if compile_trunk:
        trunk: Any = model.backbone
        trunk.compile()
    return model
