"""Training of JointRefineNet: semantics, boundaries, embeddings."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cups.ops.borders import label_borders
from cups.ops.depth_edges import depth_edges
from cups.ops.resize import resize_ids
from pseudo_labels.inputs.instances import found_instances, read_instances
from pseudo_labels.inputs.labels import check_aspect
from pseudo_labels.inputs.refine_inputs import RefineView
from pseudo_labels.joint_refine_net import JointRefineNet
from pseudo_labels.losses.instance_embedding_loss import instance_embedding_loss
from pseudo_labels.networks.refine_crops import RefinementFrames
from pseudo_labels.networks.refine_training import RefineFit, train_refinement
from pseudo_labels.settings.outlines import NETWORK, OUTLINES
from pseudo_labels.settings.refinement import TrainJointRefineSettings
from pseudo_labels.steps.ancestry import refuse_other_semantics
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.left_out import readable
from pseudo_labels.steps.options import RunOptions

DEPTH_STEP = OUTLINES[NETWORK].cut
"""Log-depth step of a boundary, the default that cuts regions in every kind of depth."""


class JointFrames(RefinementFrames):
    """Crops with pseudo-instances (`instances`, int64, 0 none) and boundaries (`boundary`, float, 0 or 1)."""

    def __init__(self, *crops: Any, instances: Folder) -> None:
        super().__init__(*crops)
        self.instances = instances

    def extras(self, frame: Frame, view: RefineView, label_size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the instance and boundary maps of a frame."""
        ids = read_instances(self.instances.path(frame))
        check_aspect(self.instances.path(frame), ids.shape, label_size)
        instances = resize_ids(torch.from_numpy(ids.astype(np.int64)), view.size)
        steps = depth_edges(view.log_depth[0].exp().numpy()) > DEPTH_STEP
        boundary = label_borders(instances.numpy()) | steps
        return {"instances": instances, "boundary": torch.from_numpy(boundary).float()}


class JointFit(RefineFit):
    """`RefineFit` with the losses of the boundary and embedding heads."""

    settings: TrainJointRefineSettings

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the parts of the loss for a batch of `JointFrames`."""
        batch = self.with_features(batch)
        pixels = self.pixels(batch)
        outputs = self.outputs(batch, pixels)
        boundary = balanced_cross_entropy(outputs["boundary"][:, 0].float(), batch["boundary"])
        embedding = instance_embedding_loss(outputs["embedding"], batch["instances"])
        return {
            **self.semantic_losses(batch, pixels, outputs["semantic"]),
            "boundary": self.settings.boundary_weight * boundary,
            "embedding": self.settings.embedding_weight * embedding,
        }


def balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, each side weighted by the share of the other (Xie & Tu, ICCV 2015, equation 2).

    logits, target in 0-1: (B, H, W) -> scalar.
    """
    share = target.mean()
    weight = torch.where(target > 0.5, 1 - share, share)
    return F.binary_cross_entropy_with_logits(logits, target, weight)


def train_joint_refine_net(source: FrameSource, settings: TrainJointRefineSettings, run: RunOptions) -> None:
    """Train JointRefineNet on the source's images and write `joint_refine_net.pth`.

    Raises:
        UserError: missing inputs, a folder with another run.
    """
    root, source = run.root(source), readable(source, run)
    instances = found_instances(root, settings.instance_subdir, settings.instances)
    instances.require(source.frames(), "run generate_depth_guided_instances.py, or give `instance_subdir`")
    refuse_other_semantics(root / settings.semantic_subdir, instances.directory)
    train_refinement(
        source,
        settings,
        run,
        "train_joint_refine_net",
        JointRefineNet,
        JointFit,
        partial(JointFrames, instances=instances),
        shape={"embedding_dim": settings.embedding_dim},
        inputs=[instances.directory],
    )
