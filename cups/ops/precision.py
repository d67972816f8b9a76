"""Geometry in 32 bits while a network computes in fewer.

bfloat16 has 8 significant bits: beside column 1500 its neighbours are 8 pixels apart. Coordinates, blurs and
whatever is interpolated stay in float32; features alone may be narrow.
"""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(device: torch.device | str) -> torch.autocast:
    """Return the context in which `torch.autocast` narrows nothing on a device."""
    return torch.autocast(torch.device(device).type, enabled=False)


def widen(tensor: Tensor) -> Tensor:
    """Return floats of less than 32 bits as float32, others as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
