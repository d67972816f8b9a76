"""The device and the number format that a network of Stage 1 runs with."""

from __future__ import annotations

import torch

from cups.errors import UserError

FORMATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of a name: cpu, cuda, cuda:1, ...; auto is CUDA if there is one.

    Raises:
        UserError: unknown name, or CUDA asked for where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"`device` {name}: unknown device; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"`device` {name}: this machine has no CUDA device; use cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"`device` {name}: this machine has {torch.cuda.device_count()}, from cuda:0 on")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"`device` {name}: this machine has none; use cpu")
    return device


def images_at_once(batch_size: int, device: torch.device) -> int:
    """Return how many images a network takes at once: one on a CPU, so that none depends on the others.

    Sums are ordered by the shape of a batch: in batches of 4 and of 2, depth differed in one pixel of 10,000,
    features in one value of 400; shards and resumed runs make other batches. On a CPU batches gain nothing
    (measured: they were slower). On a GPU they do, and results depend on them in the last digits.
    """
    return 1 if device.type == "cpu" else batch_size


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the number format of a name on a device; auto is bf16 or fp16 on a GPU, fp32 on a CPU."""
    if name != "auto":
        return FORMATS[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
