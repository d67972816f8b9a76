"""Whether the tensors of a file are as large as they say: a few bytes can name a tensor of terabytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cups.errors import UserError

SHARED = 4
"""How often the same bytes may stand in several tensors: weights that a network ties."""
SPARE = 2**20
"""Bytes that shared tensors may have beyond that."""


def require_backed(content: Any, path: Path) -> None:
    """Refuse the content of a torch file whose tensors are not there in full.

    A tensor may repeat one number by a stride of 0, be sparse, or have no storage at all: what is made in its
    shape would fill the memory.

    Raises:
        UserError: naming the file.
    """
    claimed, storages = 0, {}
    for tensor in _tensors(content):
        if tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.is_quantized:
            raise UserError(f"{path}: holds a tensor without plain numbers; save the state_dict again, dense")
        size, storage = tensor.numel() * tensor.element_size(), tensor.untyped_storage()
        if size > storage.nbytes():
            raise UserError(
                f"{path}: holds a tensor of shape {_shape(tensor)}, but only {storage.nbytes()} bytes of it; "
                "get the file again from where it was trained"
            )
        claimed += size
        storages[storage.data_ptr()] = storage.nbytes()
    if claimed > SHARED * sum(storages.values()) + SPARE:
        raise UserError(f"{path}: holds tensors that are one another's copies; save the state_dict again")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape[:6])) or "1"


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors in plain containers, each container once."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value
