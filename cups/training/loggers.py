"""Where a run's numbers go: CSV and TensorBoard in its folder, and Weights & Biases."""

from __future__ import annotations

import logging
import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

log = logging.getLogger(__name__)


def build_loggers(directory: Path, wandb_project: str | None) -> list[Logger]:
    """Return CSV and TensorBoard loggers in the run folder, and W&B if there is a project for it.

    W&B that cannot be used is warned of and left out: the other two hold the same.
    """
    loggers: list[Logger] = [
        CSVLogger(directory, name="csv", flush_logs_every_n_steps=10),
        TensorBoardLogger(directory, name="", version="tensorboard"),
    ]
    if wandb_project:
        loggers += _wandb_logger(directory, wandb_project)
    return loggers


def _wandb_logger(directory: Path, project: str) -> list[Logger]:
    """Return the W&B logger, already started: what is wrong with it comes up now, not hours later."""
    reason = _wandb_missing()
    if reason is None:
        try:
            logger = WandbLogger(project=project, name=directory.name, save_dir=directory, log_model=False)
            _ = logger.experiment
        except Exception as error:  # it raises its own kinds, those of requests, and ValueError
            reason = " ".join(str(error).split())[:120] or type(error).__name__
        else:
            return [logger]
    log.warning(
        "Weights & Biases: %s; logs go to the run folder alone (no warning with SYSTEM.WANDB False)", reason
    )
    return []


def _wandb_missing() -> str | None:
    """Return why W&B cannot be used, None if it can or needs no account."""
    if find_spec("wandb") is None:
        return "not installed (pip install wandb)"
    if os.environ.get("WANDB_MODE", "online") != "online":
        return None
    wandb = import_module("wandb")
    try:
        known = wandb.login(prompt=False)
    except TypeError:  # before 0.22 the argument did not exist
        known = wandb.api.api_key is not None
    except Exception as error:
        return " ".join(str(error).split())[:120]
    return None if known else "no account on this machine (wandb login)"
