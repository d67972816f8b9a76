"""Lightning Trainer, loaders, loggers and callbacks from a configuration."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, LearningRateMonitor, TQDMProgressBar
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler
from yacs.config import CfgNode

from cups.config import changed_settings, plain, save_config
from cups.data.utils import identity_collate
from cups.errors import UserError
from cups.io.children import ignore_stop_signals
from cups.training.callbacks import MediaLogger, StepClock, Throughput
from cups.training.kept_checkpoints import (
    checkpoint_to_resume,
    holds_checkpoints,
    last_checkpoint,
    remove_leftovers,
)
from cups.training.loggers import build_loggers
from cups.training.processes import (
    end_with_launcher,
    is_first_process,
    leave_group_at_exit,
    precision_of,
    raise_open_file_limit,
)
from cups.training.recipe import CUPS_STAGE2, Recipe
from cups.training.run_folder import (
    run_plugins,
    run_training,
    save_by_time,
    save_last_step,
)
from cups.training.sampling import StepSampler

log = logging.getLogger(__name__)

NO_EFFECT = {
    "TRAINING.ADAMW.": "the optimiser goes on as in the checkpoint",
    "TRAINING.SGD.": "the optimiser goes on as in the checkpoint",
    "TRAINING.LAYER_DECAY": "the optimiser goes on as in the checkpoint",
    "DATA.THING_STUFF_THRESHOLD": "the run keeps its split of things and stuff",
    "MODEL.CHECKPOINT": "the run goes on with its own weights",
    "MODEL.BACKBONE_CHECKPOINT": "the run goes on with its own weights",
    "MODEL.USE_DINO": "the run goes on with its own weights",
}
"""Starts of keys that change nothing in a resumed run: {start: why}."""


class TrainingData(pl.LightningDataModule):
    """Frames to train on, and validation frames with ground truth."""

    def __init__(self, train: Dataset[Any], validation: Dataset[Any] | None, config: CfgNode) -> None:
        super().__init__()
        self.train, self.validation, self.config = train, validation, config

    def train_dataloader(self) -> DataLoader[Any]:
        training, trainer = self.config.TRAINING, self.trainer
        assert trainer is not None
        sampler = StepSampler(
            len(self.train),  # type: ignore[arg-type]
            training.BATCH_SIZE * training.ACCUMULATE_GRAD_BATCHES,
            training.STEPS,
            seed=self.config.SYSTEM.SEED,
            first_step=trainer.global_step,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return DataLoader(
            self.train,
            batch_size=training.BATCH_SIZE,
            sampler=sampler,
            num_workers=self.config.SYSTEM.NUM_WORKERS,
            collate_fn=identity_collate,
            worker_init_fn=ignore_stop_signals,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        if self.validation is None:
            warnings.filterwarnings("ignore", ".*Total length of `list` across ranks is zero.*")
            return []
        sampler: Sampler[int] | None = None
        if self.trainer is not None and self.trainer.world_size > 1:
            sampler = DistributedSampler(
                self.validation, self.trainer.world_size, self.trainer.global_rank, shuffle=False
            )
        return validation_loader(self.validation, self.config, sampler)


def validation_loader(dataset: Any, config: CfgNode, sampler: Sampler[int] | None = None) -> DataLoader[Any]:
    """Return a loader that keeps frames as a list, in order (each rank its share, with a sampler)."""
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=config.VALIDATION.BATCH_SIZE,
        num_workers=min(config.SYSTEM.NUM_WORKERS, len(dataset)),
        collate_fn=identity_collate,
        worker_init_fn=ignore_stop_signals,
    )


def build_callbacks(config: CfgNode, directory: Path, clock: StepClock) -> list[Callback]:
    """Return checkpointing (each validation; `last.ckpt` by time), learning rate, pictures, speed."""
    training = config.TRAINING
    go_on = f"the same command with `resume` and `run_name` {directory.name} goes on"
    return [
        save_by_time(directory, training.SAVE_EVERY_N_MINUTES, training.VAL_EVERY_N_STEPS, True, go_on),
        LearningRateMonitor("step"),
        MediaLogger(directory / "media", config.TRAINING.LOG_MEDIA_N_STEPS),
        Throughput(clock, config.TRAINING.LOG_EVERY_N_STEPS),
        TQDMProgressBar(refresh_rate=5),
    ]


def build_trainer(config: CfgNode, directory: Path, callbacks: Sequence[Callback] = ()) -> pl.Trainer:
    """Build the Lightning trainer of a run; `callbacks` come on top of the usual ones.

    Validation counts batches in Lightning but checkpoints count optimisation steps; both are given in steps
    here, so they stay together under gradient accumulation.
    """
    training, system = config.TRAINING, config.SYSTEM
    raise_open_file_limit()
    leave_group_at_exit()
    end_with_launcher()
    clock = StepClock()
    return pl.Trainer(
        accelerator=system.ACCELERATOR,
        devices=system.NUM_GPUS,
        num_nodes=system.NUM_NODES,
        strategy=system.DISTRIBUTED_BACKEND,
        precision=precision_of(str(training.PRECISION)),  # type: ignore[arg-type]
        max_steps=training.STEPS,
        accumulate_grad_batches=training.ACCUMULATE_GRAD_BATCHES,
        gradient_clip_val=training.GRADIENT_CLIP_VAL,
        gradient_clip_algorithm=training.GRADIENT_CLIP_ALGORITHM,
        val_check_interval=training.VAL_EVERY_N_STEPS * training.ACCUMULATE_GRAD_BATCHES,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=training.LOG_EVERY_N_STEPS,
        use_distributed_sampler=False,
        sync_batchnorm=system.NUM_GPUS * system.NUM_NODES > 1 and torch.cuda.is_available(),
        logger=build_loggers(directory, system.WANDB_PROJECT if system.WANDB else None, plain(config)),
        callbacks=[*callbacks, *build_callbacks(config, directory, clock)],
        profiler=clock,
        plugins=run_plugins(),
        default_root_dir=directory,
    )


def start_run(config: CfgNode, directory: Path, resume: bool) -> Path | None:
    """Prepare the run folder: save the resolved config; return the checkpoint to resume from, if asked.

    Settings that have changed since the run began are logged.

    Raises:
        UserError: `resume` without a checkpoint, or a folder that already holds another run.
    """
    checkpoint = resumed_checkpoint(directory) if resume else None
    if not resume and holds_checkpoints(directory):
        raise UserError(f"{directory}: holds a run already; add `resume`, or choose another `run_name`")
    if is_first_process():
        remove_leftovers(directory)
    changed = changed_settings(config, directory / "config.yaml") if resume else {}
    for key, (before, now) in changed.items():
        why = next((f" (no effect: {why})" for start, why in NO_EFFECT.items() if key.startswith(start)), "")
        log.warning("resumed with another setting: %s %s -> %s%s", key, before, now, why)
    save_config(config, directory / "config.yaml")
    return checkpoint


def resumed_checkpoint(directory: Path) -> Path:
    """Return the checkpoint that `resume` goes on from, see `checkpoint_to_resume`.

    Raises:
        UserError: the folder has none, or none that is whole.
    """
    fix = "copy one back, remove them to start afresh, or choose another `run_name`"
    checkpoint = checkpoint_to_resume(directory, fix)
    if checkpoint is None:
        last = last_checkpoint(directory)
        raise UserError(f"{last}: no such file; `resume` needs the `log_path` and `run_name` of a run")
    return checkpoint


def recipe_of(config: CfgNode, name: str, processes: int) -> Recipe:
    """Translate the keys that decide how many images a training sees."""
    training = config.TRAINING
    return Recipe(
        name, processes, training.BATCH_SIZE, training.ACCUMULATE_GRAD_BATCHES, steps=training.STEPS
    )


def prepare_process(config: CfgNode) -> None:
    """Set up logging, seeds and matrix products of a training process."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pl.seed_everything(config.SYSTEM.SEED, workers=True, verbose=False)
    # Not `set_float32_matmul_precision`: CPUs with units for bf16 would round all products to its 8 bits.
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = True


def fit(
    module: pl.LightningModule,
    data: TrainingData,
    config: CfgNode,
    directory: Path,
    resume: bool,
    callbacks: Sequence[Callback] = (),
    published: Recipe = CUPS_STAGE2,
) -> Path:
    """Train a module to its last step in a run folder and return its last checkpoint.

    Args:
        published: the recipe of CUPS that the log compares this one with.

    Raises:
        UserError: see `start_run`.
        Stopped: a signal asked for it; the run is saved.
    """
    checkpoint = start_run(config, directory, resume)
    trainer = build_trainer(config, directory, callbacks)
    if trainer.is_global_zero:
        recipe, frames = recipe_of(config, published.name, trainer.world_size), data.train
        log.info("%s", recipe.told(len(frames), published))  # type: ignore[arg-type]
    run_training(trainer, module, data, checkpoint)
    save_last_step(trainer)
    log.info("finished at step %d; checkpoints in %s", trainer.global_step, directory / "checkpoints")
    return last_checkpoint(directory)
