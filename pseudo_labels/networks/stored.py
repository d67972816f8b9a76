"""What a file of weights, or the settings beside it, may decide: less than a user.

Names are those of a list, folders lie within the output root, numbers are bounded, and sizes are those of the
weights. No path and no name that a file holds is opened or looked up: who wants one gives it himself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cups.errors import UserError
from cups.io.checkpoint import differences

Network = TypeVar("Network", bound=nn.Module)

LARGEST = 2**16
"""Channels, classes, slots, rows: of any network."""
MOST_REPEATS = 64
"""Layers and iterations."""
REPEATS = ("decoder_layers", "iterations")


def bounded_shape(told: Any) -> dict[str, Any]:
    """Return the arguments of a network's constructor if all are whole numbers that some network has.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(told, Mapping):
        raise ValueError("no sizes of a network")
    for name, value in told.items():
        most = MOST_REPEATS if name in REPEATS else LARGEST
        values = value if isinstance(value, list | tuple) and len(value) <= 2 else [value]
        if not all(isinstance(one, int) and 0 <= one <= most for one in values):
            raise ValueError(f"{str(name)[:40]} is no number up to {most}")
    return dict(told)


def build_fitting(build: Callable[[], Network], state: Mapping[str, Tensor]) -> Network:
    """Build a network and load a state into it; nothing is allocated before all sizes are those of the state.

    Raises:
        ValueError: they differ.
        Exception: whatever `build` raises.
    """
    with torch.device("meta"):
        problems = differences(build().state_dict(), state)
    if problems:
        raise ValueError(problems)
    network = build()
    network.load_state_dict(state, strict=True)
    return network


def stored_folder(trained: Mapping[str, Any], key: str, path: Path) -> str:
    """Return the name of a folder of the output root that a network was trained on.

    Raises:
        UserError: no name, or a path that leads elsewhere; the setting has to tell it then.
    """
    name = trained.get(key)
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]{0,199}", name):
        raise UserError(f"{path}: was trained on no plain folder of the root; name its folder with `{key}`")
    return name


def stored_number(trained: Mapping[str, Any], key: str, low: float, high: float, path: Path) -> Any:
    """Return a number of a file.

    Raises:
        UserError: it is none, or out of its range.
    """
    value = trained.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{path}: its {key} is no number; train the network again")
    if not low <= value <= high:
        raise UserError(f"{path}: its {key} must lie in {low:g}-{high:g}; train the network again")
    return value
