"""The two refinement networks and their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cups.errors import UserError
from pseudo_labels.joint_refine_net import JointRefineNet
from pseudo_labels.networks.weight_files import rebuild_network, save_weights
from pseudo_labels.refine_net import CSCMRefineNet

RefineNetwork = CSCMRefineNet | JointRefineNet
NETWORKS: Mapping[str, type[RefineNetwork]] = {
    "CSCMRefineNet": CSCMRefineNet,
    "JointRefineNet": JointRefineNet,
}
FORMAT = 2
"""Of the files of networks. The first, without a number, held networks that took labels as an input."""


def save_network(path: Path, network: RefineNetwork, settings: dict[str, Any]) -> None:
    """Write a refinement network as one file with what rebuilds it and names its inputs."""
    save_weights(
        path, network.state_dict(), {"network": type(network).__name__, "format": FORMAT, **settings}
    )


def load_network(path: Path) -> tuple[RefineNetwork, dict[str, Any]]:
    """Return (network in evaluation mode, settings) as `save_network` wrote them.

    Raises:
        UserError: missing file, another network's, or one of a version whose networks read labels.
    """

    def build(saved: dict[str, Any]) -> RefineNetwork:
        kind, shape = NETWORKS[str(saved["network"])], saved["shape"]
        if saved.get("format") != FORMAT:
            raise UserError(f"{path}: of an earlier version, whose networks copied labels; train it again")
        return kind(**shape)

    return rebuild_network(path, build, "refinement", "train_refine_net.py")
