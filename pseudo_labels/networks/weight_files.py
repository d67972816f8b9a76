"""Files of trained Stage-1 networks, without the training library: it takes longer to load than a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cups.errors import UserError
from cups.io.checkpoint import read_file, write_file
from pseudo_labels.networks.stored import Network, bounded_shape, build_fitting


def save_weights(path: Path, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Write tensors and the plain settings that rebuild their network as one file, atomically."""
    tensors = {key: value.cpu() for key, value in state.items()}
    write_file(path, {"settings": dict(settings), "state_dict": tensors})


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read (state dict, settings) as `save_weights` wrote them, without running code from the file.

    Raises:
        UserError: missing file, or a file of another kind.
    """
    content = read_file(path, fix="train the network first, or give another `checkpoint`")
    try:
        return dict(content["state_dict"]), dict(content["settings"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise UserError(f"{path}: not weights of a Stage-1 network; check `checkpoint`") from None


def rebuild_network(
    path: Path, build: Callable[[dict[str, Any]], Network], what: str, script: str
) -> tuple[Network, dict[str, Any]]:
    """Rebuild a network that `save_weights` wrote: (network in evaluation mode, settings).

    Args:
        build: makes the network from the settings.
        what, script: the kind of network and the script that trains it, for the error.

    Raises:
        UserError: missing file, or another network's.
    """
    state, settings = load_weights(path)
    try:
        settings["shape"] = bounded_shape(settings["shape"])
        network = build_fitting(lambda: build(settings), state)
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError):
        raise UserError(f"{path}: not a {what} network; give the file that {script} wrote") from None
    return network.eval(), settings
