"""How many images a training sees, beside CUPS's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What decides how many images a training sees.

    Attributes:
        name: of the stage, for the log.
        gpus: GPUs of all nodes; on CPU, processes.
        batch: images for each GPU and micro-batch.
        micro_batches: of an optimisation step.
        steps: optimisation steps.
    """

    name: str
    gpus: int
    batch: int
    micro_batches: int
    steps: int

    @property
    def per_step(self) -> int:
        """Images of an optimisation step."""
        return self.gpus * self.batch * self.micro_batches

    @property
    def images(self) -> int:
        """Images of the whole training, each as often as it is seen."""
        return self.per_step * self.steps

    def told(self, frames: int, published: Recipe) -> str:
        """Return one line on this training of a data set of `frames` images, and on the published one."""
        line = (
            f"{self.name}: {self.per_step} images per optimiser step ({self.gpus} GPUs or processes x "
            f"{self.batch} x {self.micro_batches} accumulated), {self.steps} steps, {self.images} images in "
            f"all, {self.images / frames:.3g} passes over {frames}; CUPS: {published.per_step} per step, "
            f"{published.steps} steps, {published.images} images ({published.images / self.images:.3g} times "
            "as many)"
        )
        needed, rest = divmod(published.per_step, self.gpus * self.batch)
        if self.per_step == published.per_step or rest:
            return line
        return f"{line}; TRAINING.ACCUMULATE_GRAD_BATCHES {needed} makes it {published.per_step} per step"


CUPS_STAGE2 = Recipe("Stage 2", gpus=4, batch=16, micro_batches=1, steps=8000)
CUPS_STAGE3 = Recipe("Stage 3", gpus=4, batch=16, micro_batches=1, steps=1500)
"""CUPS (Hahn et al., CVPR 2025): batch (of each GPU) and steps of its configuration for Cityscapes, on the
four GPUs of its README. The defaults of that configuration, and the checkpoint with which the README begins
Stage 3, have 4000 steps in Stage 2.
"""
