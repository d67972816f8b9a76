"""Settings that all trainings of Stage 1 share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import BATCH, COUNT, DECAY, MINUTES, NOT_NEGATIVE, RATE, TEXT, WORKERS, whole
from pseudo_labels.settings.groups import Device, Seed
from pseudo_labels.steps.flags import flag

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

    checkpoint_dir: Path | None = flag(None, "folder to write (default: in the output root)")
    steps: int = flag(meaning="optimisation steps", allowed=COUNT)
    batch_size: int = flag(meaning="samples per step and GPU", allowed=BATCH)
    lr: float = flag(meaning="peak learning rate", allowed=RATE)
    weight_decay: float = flag(0.0, "AdamW if above 0, else Adam", allowed=DECAY)
    clip: float = flag(0.0, "limit of the gradient norm (0: none)", allowed=NOT_NEGATIVE)
    precision: str = flag(
        "auto",
        "of the network (auto: bf16 where the hardware has it, else fp32)",
        choices=TRAINING_PRECISIONS,
    )
    num_gpus: int = flag(1, "GPUs (processes, where `device` is cpu)", allowed=whole(1, 1024))
    num_workers: int = flag(
        LOADERS, "processes that read the samples (0: none)", decides=False, allowed=WORKERS
    )
    save_every: int = flag(1000, "steps between checkpoints", allowed=COUNT)
    save_minutes: float = flag(
        SAVE_MINUTES,
        "minutes after which it is saved whatever the step (0: each step)",
        decides=False,
        allowed=MINUTES,
    )
    log_every: int = flag(50, "steps between logged values", allowed=COUNT)
    wandb_project: str | None = flag(None, "log to this W&B project too (else only locally)", allowed=TEXT)
