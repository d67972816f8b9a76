"""The processes of a training run: their seeds, means over them, number format, open files, how they end."""

from __future__ import annotations

import atexit
import os
import resource
import signal
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from cups.io.children import end_with_parent
from cups.training.choices import PRECISIONS


def step_seed(*key: int) -> int:
    """Return a seed of (seed, step, rank, ...): a resumed run repeats what the first would have drawn."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID")
"""Variables in which the ways to start a run tell each process its number; 0 or nothing for the first."""


def is_first_process() -> bool:
    """Return whether this is the one process of its run that writes; true before any other is started."""
    return all(os.environ.get(name, "0") in ("", "0") for name in RANKS)


def end_with_launcher() -> None:
    """Let a further process of a run be killed with the one that started it; it saves nothing itself."""
    if not is_first_process():
        end_with_parent(signal.SIGKILL)


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes of the run; every process must take part.

    A value that is not finite anywhere is not finite in the mean.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def leave_group_at_exit() -> None:
    """Leave the group of processes, if this run is in one, before the interpreter ends.

    A thread of Gloo that outlives the interpreter aborts the process; Lightning leaves groups of NCCL only.
    """
    atexit.register(_leave_group)


def _leave_group() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def slurm_job() -> str | None:
    """Return the id of the SLURM batch job that this process is part of, "42" or "42_3"; None outside."""
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None  # a shell, in which several runs may be started
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID") or None


def precision_of(name: str) -> str:
    """Return Lightning's name of a precision; "auto" is bf16 where the hardware has it, else 32 bits."""
    if name == "auto":
        fast = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else _cpu_has_bf16()
        name = "bf16" if fast else "32"
    return PRECISIONS.get(name, name)


def _cpu_has_bf16() -> bool:
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and any(flag in flags.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def raise_open_file_limit(limit: int = 16384) -> None:
    """Let many loader workers share tensors: the usual soft limit of 1024 files is too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
