"""The folder of a run."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from yacs.config import CfgNode

from cups.training.processes import slurm_job


def run_directory(config: CfgNode, prefix: str = "pseudo") -> Path:
    """Return the folder of this run: `LOG_PATH/RUN_NAME`, by default named after the time of its start.

    The name goes through the environment: the processes that DDP starts later must not name their own. Those
    of a SLURM job are named after it: all of them, and those that it has when it is queued again.
    """
    job = slurm_job()
    start = job or datetime.now().strftime("%Y_%m_%d_%H_%M_%S")
    name = config.SYSTEM.RUN_NAME or os.environ.setdefault("CUPS_RUN_NAME", f"{prefix}_{start}")
    return Path(config.SYSTEM.LOG_PATH) / str(name)
