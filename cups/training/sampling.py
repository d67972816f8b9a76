"""Step-based sampling: one long epoch, equal on every machine, resumable at any step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from cups.structures import Draw


class StepSampler(Sampler[Draw]):
    """Draws for a fixed number of optimisation steps.

    Each pass over the data is a fresh seeded permutation; ranks take every `world_size`-th draw, so under DDP
    no frame is seen twice before all were seen once. Starting at `first_step` continues the very sequence
    that an interrupted run would have had.

    Args:
        num_samples: length of the data set.
        batch_size: samples per optimisation step and rank (micro-batches together).
        steps: optimisation steps of the whole run.
        first_step: step to start from.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        steps: int,
        seed: int = 0,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.first_step = first_step
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        # The whole run, also after a resume: Lightning adds the batches already done to its own count.
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        permutation, current_pass = np.empty(0, dtype=np.int64), -1
        for count in range(self.first_step * self.batch_size, self.steps * self.batch_size):
            number = count * self.world_size + self.rank
            which_pass, offset = divmod(number, self.num_samples)
            if which_pass != current_pass:
                permutation = np.random.default_rng((self.seed, which_pass)).permutation(self.num_samples)
                current_pass = which_pass
            yield Draw(int(permutation[offset]), number)
