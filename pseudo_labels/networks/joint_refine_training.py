"""Training of JointRefineNet: semantics, boundaries, embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cups.io.png import read_ids
from cups.ops.depth_edges import depth_edges
from cups.ops.resize import resize_ids
from pseudo_labels.inputs.labels import check_aspect
from pseudo_labels.inputs.refine_inputs import RefineFolders, RefineInput, RefinementFrames
from pseudo_labels.losses.instance_embedding_loss import instance_embedding_loss
from pseudo_labels.networks.refine_training import RefineFit
from pseudo_labels.steps.step import Folder, Frame

DEPTH_STEP = 0.15
"""Log-depth step of a boundary, the default cut of `generate_depth_guided_instances.py`."""


class JointFrames(RefinementFrames):
    """Crops with pseudo-instances (`instances`, int64, 0 none) and boundaries (`boundary`, float, 0 or 1)."""

    def __init__(
        self,
        frames: Sequence[Frame],
        folders: RefineFolders,
        num_classes: int,
        crop: int,
        seed: int,
        *,
        instances: Folder,
    ) -> None:
        super().__init__(frames, folders, num_classes, crop, seed)
        self.instances = instances

    def extras(self, frame: Frame, whole: RefineInput) -> dict[str, Tensor]:
        """Return the instance and boundary maps of a frame."""
        ids = read_ids(self.instances.path(frame))
        check_aspect(self.instances.path(frame), ids.shape, whole.label_size)
        size = (whole.labels.shape[0], whole.labels.shape[1])
        instances = resize_ids(torch.from_numpy(ids.astype(np.int64)), size)
        steps = depth_edges(whole.log_depth[0].exp().numpy()) > DEPTH_STEP
        return {"instances": instances, "boundary": (outlines(instances) | torch.from_numpy(steps)).float()}


def outlines(ids: Tensor) -> Tensor:
    """Return the pixels whose right or lower neighbour has another id, and those neighbours: (H, W) bool."""
    edge = torch.zeros_like(ids, dtype=torch.bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


class JointFit(RefineFit):
    """`RefineFit` with the losses of the boundary and embedding heads."""

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the parts of the loss for a batch of `JointFrames`."""
        outputs = self.forward(batch)
        boundary = balanced_cross_entropy(outputs["boundary"][:, 0].float(), batch["boundary"])
        embedding = instance_embedding_loss(outputs["embedding"], batch["instances"])
        return {
            **self.semantic_losses(batch, outputs["semantic"]),
            "boundary": self.args.boundary_weight * boundary,
            "embedding": self.args.embedding_weight * embedding,
        }


def balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, each side weighted by the share of the other (Xie & Tu, ICCV 2015, equation 2).

    logits, target in 0-1: (B, H, W) -> scalar.
    """
    share = target.mean()
    weight = torch.where(target > 0.5, 1 - share, share)
    return F.binary_cross_entropy_with_logits(logits, target, weight)
