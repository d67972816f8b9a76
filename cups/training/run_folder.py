"""What a run leaves in its folder: checkpoints."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.callbacks import Checkpoint, TQDMProgressBar

from cups.errors import Stopped
from cups.io.checkpoint import write_file
from cups.io.durable import keep_previous
from cups.io.locking import one_writer
from cups.training.kept_checkpoints import PREVIOUS, last_checkpoint, link_last, step_checkpoint
from cups.training.memory import freed_memory_kept
from cups.training.processes import is_first_process
from cups.training.stopping import SIGNALS, Clock, StopSignals, agree_on


def only_writer(directory: Path) -> AbstractContextManager[None]:
    """Be the only run that writes into a run folder; the first process holds it for all of the run.

    The lock is beside the folder, so that a run that is refused for its settings leaves none.

    Raises:
        UserError: another run does; see `one_writer`.
    """
    fix = "choose another `run_name`"
    return one_writer(directory, fix, beside=True) if is_first_process() else nullcontext()


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints beside their place and renames them, which replaces a link and never follows it.

    Lightning's own way goes through the system's temporary folder: where that is another disk, it copies into
    the file at hand, and through a link into an earlier checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_file(Path(path), checkpoint)


def run_plugins() -> list[Any]:
    """Return what every trainer is given: whole files, and under SLURM no requeueing of Lightning's own.

    That saves within the signal handler, where the processes of a run wait for each other for ever.
    """
    slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return [WholeFiles(), *([SLURMEnvironment(auto_requeue=False)] if slurm else [])]


class SaveByTime(Checkpoint):
    """Keeps `last.ckpt`: every few minutes, every few steps, and when a signal asks the run to stop.

    It saves between two optimisation steps only, all processes together. The run that was stopped raises
    `Stopped` then. What `last.ckpt` was before stays as `previous.ckpt`, for the case that `last.ckpt` is
    damaged, until a checkpoint of a step is kept or the run ends.

    Args:
        directory: run folder.
        minutes: between two saves; 0 saves every step.
        every: steps between saves, whatever the clock says; None: the clock alone.
        keep_all: keep those as `ups_checkpoint_step=*.ckpt`, to which `last.ckpt` is a link.
        go_on: how the user goes on with a stopped run.
    """

    def __init__(
        self, directory: Path, minutes: float, every: int | None, keep_all: bool, go_on: str
    ) -> None:
        self.directory, self.every, self.keep_all, self.go_on = directory, every, keep_all, go_on
        self.stop = StopSignals()
        self.clock = Clock(minutes)
        self._step = self._saved = 0

    def on_load_checkpoint(self, trainer: pl.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Note the step that is saved already."""
        self._saved = int(checkpoint["global_step"])

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Take the signals from Lightning, and start the clock."""
        self._step = trainer.global_step
        self.clock.restart()
        self.stop.catch()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Save what is due.

        Raises:
            Stopped: a process of the run was asked to stop.
        """
        if trainer.global_step == self._step:
            return  # between micro-batches; gradients are not saved
        self._step = trainer.global_step
        due = trainer.is_global_zero and self.clock.is_due
        # All processes do what one of them was told, and what the clock of the first says.
        what = agree_on(self.stop.received or int(due), trainer.strategy.root_device)
        if self.every is not None and self._step % self.every == 0:
            self.save(trainer, keep=self.keep_all)
        elif what:
            self.save(trainer, keep=False)
        self._leave_if_told(trainer, what)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Obey within a long validation, which is repeated; several processes go on to the next step.

        Raises:
            Stopped: this process was asked to stop.
        """
        if trainer.world_size == 1 and self._saved == trainer.global_step:
            self._leave_if_told(trainer, self.stop.received)

    def _leave_if_told(self, trainer: pl.Trainer, what: int) -> None:
        if what in SIGNALS:
            bar = trainer.progress_bar_callback
            if isinstance(bar, TQDMProgressBar) and trainer.is_global_zero:
                bar.train_progress_bar.close()  # what is told next begins on a line of its own
            told = f"stopped at step {trainer.global_step}; {self.go_on}"
            raise Stopped(told, what) if trainer.is_global_zero else Stopped("", 0)

    def save(self, trainer: pl.Trainer, keep: bool) -> None:
        """Save this step, if it is not saved yet; `keep`: as a file of its own."""
        step, last = trainer.global_step, last_checkpoint(self.directory)
        path = step_checkpoint(self.directory, step) if keep else last
        if self._saved == step and path.exists():
            return
        before = last.resolve() if last.is_symlink() else None
        previous = last.with_name(PREVIOUS)
        if trainer.is_global_zero and not keep:
            keep_previous(last, previous)
        trainer.save_checkpoint(path, weights_only=False)
        if trainer.is_global_zero and keep:
            link_last(path)
            previous.unlink(missing_ok=True)
        elif trainer.is_global_zero and before is not None and not self.keep_all:
            before.unlink(missing_ok=True)  # an earlier version kept the newest under its own name
        self._saved = step
        self.clock.restart()


def save_by_time(
    directory: Path,
    minutes: float,
    every: int | None = None,
    keep_all: bool = False,
    go_on: str = "the same command goes on",
) -> SaveByTime:
    """Return the callback that keeps `last.ckpt` of a run; see `SaveByTime`."""
    # `StepSampler` continues where the checkpoint ended; Lightning cannot know. And a run that an earlier
    # version began has its callbacks in the checkpoint.
    for message in (".*your dataloader is not resumable.*", ".*callbacks used to create the checkpoint.*"):
        warnings.filterwarnings("ignore", message)
    return SaveByTime(directory, minutes, every, keep_all, go_on)


def run_training(trainer: pl.Trainer, module: pl.LightningModule, data: Any, checkpoint: Path | None) -> None:
    """Train to the last step, from a checkpoint if there is one; between steps, obey `SIGNALS`.

    Args:
        trainer: with the callback of `save_by_time`.

    Raises:
        Stopped: the run was asked to stop, and is saved.
    """
    saver = trainer.checkpoint_callback
    assert isinstance(saver, SaveByTime)
    on_cpu = trainer.strategy.root_device.type == "cpu"
    with saver.stop, freed_memory_kept() if on_cpu else nullcontext():
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)


def save_last_step(trainer: pl.Trainer) -> None:
    """Save the end of a run whose number of steps is no multiple of the checkpoint period."""
    saver = trainer.checkpoint_callback
    assert isinstance(saver, SaveByTime)
    saver.save(trainer, keep=saver.keep_all)
    if trainer.is_global_zero:
        last_checkpoint(saver.directory).with_name(PREVIOUS).unlink(missing_ok=True)
    trainer.strategy.barrier()  # what reads last.ckpt next may do so on any process
