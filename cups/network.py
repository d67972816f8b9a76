"""A trained panoptic network, opened from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cups.defaults import CONFIDENCE_THRESHOLD
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint, load_checkpoint
from cups.model.model import network_of
from cups.structures import PseudoClasses, ThingStuffSplit


@dataclass(frozen=True, eq=False)
class PanopticNetwork:
    """A network in evaluation mode and the pseudo-classes behind its outputs.

    Attributes:
        model: `[{"image": (3, H, W) float RGB 0-1}]` -> `[{"sem_seg", "instances", "panoptic_seg"}]`.
        split: which pseudo-classes are things and which stuff, in the order of the network's outputs.
    """

    model: nn.Module
    split: ThingStuffSplit

    def __call__(self, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the model's output of each image, without gradients."""
        with torch.no_grad():
            outputs: list[dict[str, Any]] = self.model(images)
        return outputs


def load(
    path: str | Path,
    device: torch.device | str = "cpu",
    confidence_threshold: float = CONFIDENCE_THRESHOLD,
    *,
    prefer_teacher: bool = False,
) -> PanopticNetwork:
    """Open a checkpoint of this project, or a published one of CUPS.

    Args:
        path: the checkpoint.
        device: where the network runs.
        confidence_threshold: lowest score of an instance, 0-1.
        prefer_teacher: of a self-training checkpoint, take the averaged teacher, not the student.

    Raises:
        UserError: if the file is no such checkpoint.

    Example:
        >>> import cups, torch
        >>> network = cups.load("run/checkpoints/last.ckpt")
        >>> image = torch.rand(3, 512, 1024)  # RGB in 0-1
        >>> segment_ids, segments = network([{"image": image}])[0]["panoptic_seg"]
        >>> segment_ids.shape  # of the image; `segments` tells category and kind of each id
        torch.Size([512, 1024])
    """
    checkpoint = load_checkpoint(path, prefer_teacher)
    model, pseudo = network_of(checkpoint, device, confidence_threshold)
    return PanopticNetwork(model, split_of(checkpoint, pseudo))


def split_of(checkpoint: Checkpoint, pseudo: PseudoClasses) -> ThingStuffSplit:
    """Return the pseudo-classes behind a network; without a record of them, the published numbering.

    Raises:
        UserError: a record that does not fit the weights.
    """
    stored = checkpoint.hyper_parameters
    things = tuple(stored.get("thing_pseudo_classes", pseudo.thing_ids))
    stuffs = tuple(stored.get("stuff_pseudo_classes", pseudo.stuff_ids))
    if (len(things), len(stuffs)) != (pseudo.things, pseudo.stuffs):
        raise UserError(
            f"{checkpoint.path}: names {len(things)} thing and {len(stuffs)} stuff pseudo-classes, its "
            f"weights have {pseudo.things} and {pseudo.stuffs}; train Stage 2 again"
        )
    return ThingStuffSplit(things, stuffs)
