"""Settings that all trainings of Stage 1 share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cups.errors import UserError
from pseudo_labels.settings.groups import Device, Seed
from pseudo_labels.steps.flags import flag, require_at_least

TRAINING_PRECISIONS = ("auto", "bf16", "16", "fp16", "32", "fp32")
CORES = len(os.sched_getaffinity(0))
"""Of this process; a container may have fewer than the machine."""
SAVE_MINUTES = 5.0
"""Default minutes between checkpoints: what a kill costs at most."""
LOADERS = min(4, CORES)
"""Default processes that read samples: without any, the network waits for each file."""


@dataclass(frozen=True)
class Training(Seed, Device):
    """Training."""

    LEAST_STEPS: ClassVar[int] = 1
    """Below it a number of steps is refused."""

    checkpoint_dir: Path | None = flag(None, "folder to write (default: in the output root)")
    steps: int = flag(meaning="optimisation steps")
    batch_size: int = flag(meaning="samples per step and GPU")
    lr: float = flag(meaning="peak learning rate")
    weight_decay: float = flag(0.0, "AdamW if above 0, else Adam")
    clip: float = flag(0.0, "limit of the gradient norm (0: none)")
    precision: str = flag(
        "auto",
        "of the network (auto: bf16 where the hardware has it, else fp32)",
        choices=TRAINING_PRECISIONS,
    )
    num_gpus: int = flag(1, "GPUs (processes, where `device` is cpu)")
    num_workers: int = flag(LOADERS, "processes that read the samples (0: none)", decides=False)
    save_every: int = flag(1000, "steps between checkpoints")
    save_minutes: float = flag(
        SAVE_MINUTES, "minutes after which it is saved whatever the step (0: each step)", decides=False
    )
    log_every: int = flag(50, "steps between logged values")
    wandb_project: str | None = flag(None, "log to this W&B project too (else only locally)")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self.LEAST_STEPS, self, "steps")
        require_at_least(1, self, "batch_size", "num_gpus", "save_every", "log_every")
        require_at_least(0, self, "num_workers", "save_minutes")
        if not self.lr > 0:
            raise UserError(f"`lr` {self.lr}: must be above 0")
