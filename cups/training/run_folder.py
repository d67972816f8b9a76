"""What a run leaves in its folder: loggers and checkpoints."""

from __future__ import annotations

import logging
import os
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
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


def checkpoint_every(directory: Path, steps: int, keep_all: bool) -> ModelCheckpoint:
    """Return the callback that saves every `steps` steps, all kept or the newest, and links `last.ckpt`."""
    # `StepSampler` continues where the checkpoint ended; Lightning cannot know.
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
    return ModelCheckpoint(
        directory / "checkpoints",
        filename="ups_checkpoint_{step:06d}",
        every_n_train_steps=steps,
        save_top_k=-1 if keep_all else 1,
        save_last="link",
        # Otherwise a resumed run would write last-v1.ckpt beside a stale last.ckpt.
        enable_version_counter=False,
    )


def save_last_step(trainer: pl.Trainer, directory: Path) -> None:
    """Save the end of a run whose number of steps is no multiple of the checkpoint period."""
    path = step_checkpoint(directory, trainer.global_step)
    if path.exists():
        return
    trainer.save_checkpoint(path, weights_only=False)
    if trainer.is_global_zero:
        last = last_checkpoint(directory)
        last.unlink(missing_ok=True)
        last.symlink_to(path.name)
    trainer.strategy.barrier()  # what reads last.ckpt next may do so on any process


def last_checkpoint(directory: Path) -> Path:
    """Return where a run keeps its newest checkpoint."""
    return directory / "checkpoints" / "last.ckpt"


def step_checkpoint(directory: Path, step: int) -> Path:
    """Return where a run keeps the checkpoint of a step."""
    return directory / "checkpoints" / f"ups_checkpoint_step={step:06d}.ckpt"
