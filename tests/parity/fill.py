"""Deterministic weights for parity tests: the same name and shape always give the same values.

A parity fixture is `<name>.json` (parameter name -> shape, as in the published checkpoint's format) plus
`<name>.npz` (inputs and the outputs that the original implementation gave with these weights).
Usage: `model.load_state_dict(filled_state_dict("<name>.json"), strict=True)`, then compare the outputs.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def fill(name: str, shape: list[int]) -> torch.Tensor:
    """Return the values for one entry of a state dict (float32; int64 zero for BatchNorm counters)."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        values = 1.0 + 0.1 * np.abs(values)
    elif len(shape) <= 1:
        values = (1.0 if name.endswith("weight") else 0.0) + 0.1 * values
    elif len(shape) == 3:  # class tokens and position embeddings
        values = 0.2 * values
    else:
        fan_in = int(np.prod(shape[1:]))
        values = values * np.float32(np.sqrt(1.5 / fan_in))
    return torch.from_numpy(np.asarray(values, dtype=np.float32).reshape(shape))


def filled_state_dict(manifest: str) -> dict[str, torch.Tensor]:
    """Return the whole state dict of one manifest in this folder, in the manifest's order."""
    shapes = json.loads((HERE / manifest).read_text())
    return {name: fill(name, shape) for name, shape in shapes.items()}
