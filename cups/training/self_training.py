"""Parts of self-training: rounds, the teacher's average, targets from its output, what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from cups.model.modeling.meta_arch.merge import decide_semantic
from cups.model.modeling.meta_arch.snap import decide_once
from cups.structures import Sample
from cups.taxonomy import WIDE_VOID
from cups.training.choices import Trainable


@dataclass(frozen=True)
class RoundSchedule:
    """Rounds of equal length, each with a higher bar for the teacher's instances.

    The round is a function of the step alone, so a resumed run is in the round in which it was stopped.

    Attributes:
        rounds, round_steps: their number, and the optimisation steps of each.
        threshold: lowest score of a teacher's instance in the first round.
        threshold_step: what each further round adds to it; upstream documents it (CUPS, 0.05), but its code
            never reads it.
    """

    rounds: int
    round_steps: int
    threshold: float
    threshold_step: float

    @property
    def steps(self) -> int:
        """Optimisation steps of all rounds."""
        return self.rounds * self.round_steps

    def round_of(self, step: int) -> int:
        """Return the round, from 0, in which `step` (from 0) is taken."""
        return min(step // self.round_steps, self.rounds - 1)

    def threshold_at(self, step: int) -> float:
        """Return the teacher's score threshold at `step`; it never reaches 1, which no score exceeds."""
        return min(self.threshold + self.round_of(step) * self.threshold_step, 0.99)

    def begins_round(self, step: int) -> bool:
        """Return whether `step` is the first of the second or a later round."""
        return step in range(self.round_steps, self.steps, self.round_steps)


@torch.no_grad()
def update_average(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher towards the student: t <- momentum * t + (1 - momentum) * s (Tarvainen, Valpola 2017).

    Parameters and floating-point buffers are averaged, integer buffers (counters) copied. At momentum 0 the
    teacher becomes the student.
    """
    averages = chain(teacher.parameters(), teacher.buffers())
    for average, value in zip(averages, chain(student.parameters(), student.buffers()), strict=True):
        if average.is_floating_point():
            average.lerp_(value.to(average.dtype), 1.0 - momentum)
        else:
            average.copy_(value)


def select_trainable(model: nn.Module, which: Trainable) -> None:
    """Freeze parameters: without need of gradients, no backward pass reaches them.

    Args:
        model: panoptic network.
        which: "heads" trains the RPN, region and semantic heads without their normalisation layers (CUPS),
            "all" everything that is not frozen already.
    """
    if which == "all":
        return
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and "head" in name and "norm" not in name)


def semantic_targets(probabilities: Tensor, relative_threshold: float, things_first: bool = False) -> Tensor:
    """Return the label (H, W) int64 of each pixel, 65535 where the teacher is unsure.

    A class takes part where it is more probable than `relative_threshold` times its highest probability in
    the image; of these the most probable one is the label (CUPS, self-training; after Araslanov and Roth,
    CVPR 2021). The bar is lower for classes that the teacher is never sure of, so they do not die out.

    With `things_first`, "some thing" takes part only where the merge decides for things, against the whole
    probability of stuff. The bars do not touch that decision: a stuff class below its own bar is no label,
    but it is evidence of stuff all the same. Without this, what the merge paints as stuff is taught as
    "some thing" wherever no single stuff class is as probable as all things together.

    Args:
        probabilities: (S+1, H, W) float, channel 0 "some thing".
        relative_threshold: 0-1; at 0 the labels are those of `decide_semantic`.
        things_first: that of the network's merge, see `decide_semantic`.
    """
    limits = relative_threshold * probabilities.amax(dim=(1, 2), keepdim=True)
    confident = torch.where(probabilities > limits, probabilities, 0.0)
    if things_first:
        confident[0].masked_fill_(decide_semantic(probabilities, things_first) != 0, 0.0)
    best, labels = confident.max(dim=0)
    return torch.where(best > 0, labels, WIDE_VOID)


def targets_from_output(
    output: Mapping[str, Any],
    image: Tensor,
    relative_threshold: float,
    name: str = "",
    ignore_unknown_things: bool = False,
    things_first: bool = False,
) -> Sample:
    """Return the training sample that a teacher's output makes of an image.

    Instances are the thing segments of the panoptic map. Their pixels are "some thing" in the semantic
    labels: upstream leaves there whatever stuff the teacher saw, and the two heads learn contradictions.

    Args:
        output: of `PanopticFPNWithTTA`: `sem_seg` probabilities (S+1, H, W), `panoptic_seg`, and `regions`
            where it has any.
        image: (3, H, W) float RGB 0-1, as the teacher saw it.
        relative_threshold, things_first: see `semantic_targets`.
        name: frame, for messages.
        ignore_unknown_things: "some thing" outside every instance becomes void, as in `PseudoLabelDataset`.
    """
    panoptic, segments = output["panoptic_seg"]
    things = [segment for segment in segments if segment["isthing"]]
    ids = torch.tensor([segment["id"] for segment in things], device=panoptic.device)
    masks = panoptic == ids[:, None, None]
    classes = torch.tensor([segment["category_id"] for segment in things], device=panoptic.device)
    decide = partial(semantic_targets, relative_threshold=relative_threshold, things_first=things_first)
    probabilities, regions = output["sem_seg"], output.get("regions")
    sem_seg = decide(probabilities) if regions is None else decide_once(decide, probabilities, regions)
    if ignore_unknown_things:
        sem_seg = sem_seg.masked_fill(sem_seg == 0, WIDE_VOID)
    return Sample(
        image.to(panoptic.device), sem_seg.masked_fill(masks.any(dim=0), 0), masks, classes.long(), name
    )
