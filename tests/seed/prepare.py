"""Makes what the seed's commands need in a copy of the repository: files of published names.

Their networks are random, and as small as their format allows. Called as `prepare.py CHECKOUT CITY`.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cups.backbones import untrained_backbone
from cups.model import panoptic_cascade_mask_r_cnn
from pseudo_labels.networks.depth_network import build_depth_network, save_depth_network
from pseudo_labels.settings.depth import DepthSettings
from refs.cause import Cluster, SegmentTR

TOKENS = 16
"""Of a window of CAUSE: 56 pixels in patches of 14."""


def random_weights(name: str) -> dict[str, Tensor]:
    """Return small positive values for a backbone, which is never initialised: that would take longer."""
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in untrained_backbone(name).state_dict().items()}
    return {key.removeprefix("network."): torch.rand(shape) * 0.04 for key, shape in shapes.items()}


def main() -> None:
    checkout, data = map(Path, sys.argv[1:])
    torch.manual_seed(0)
    (checkout / "datasets").mkdir()
    (checkout / "datasets" / "Cityscapes").symlink_to(data)  # where the configs look

    trunks = checkout / "cups" / "model" / "backbone_checkpoints"
    cause = checkout / "refs" / "cause" / "CAUSE"
    for folder in (trunks, cause):
        folder.mkdir(parents=True, exist_ok=True)
    for name, file in (
        ("dinov2_vitb14", cause / "dinov2_vitb14_pretrain.pth"),
        ("dinov3_vitb16", trunks / "dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth"),
    ):
        torch.save(random_weights(name), file)

    segment = SegmentTR(768, 90, 32, 27, TOKENS, 32)
    cluster = Cluster(768, 90, 64, 27)
    torch.save(segment.state_dict(), cause / "segment_tr.pth")
    torch.save(cluster.state_dict(), cause / "cluster_tr.pth")
    np.save(cause / "modular.npy", cluster.codebook.detach().numpy())

    settings = DepthSettings(
        "convnextv2_atto", 32, 16, 8, 8, (64, 32, 16, 16), 64, min_depth=0.5, height=64, width=128
    )
    folder = checkout / "refs" / "spidepth" / "checkpoints" / "cityscapes"
    save_depth_network(folder, build_depth_network(settings), None, settings)

    prefix = "backbone.bottom_up."
    trunk = panoptic_cascade_mask_r_cnn(2, 3).state_dict()
    arrays = {k.removeprefix(prefix): v.numpy() for k, v in trunk.items() if k.startswith(prefix)}
    content = {"model": arrays, "__author__": "DINO", "matching_heuristics": True}
    (trunks / "dino_RN50_full_pretrain_d2_format.pkl").write_bytes(pickle.dumps(content))


if __name__ == "__main__":
    main()
