"""Training of the Stage-1 networks: one Lightning loop for depth, slot attention and refinement."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, TQDMProgressBar
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cups.errors import UserError
from cups.io.checkpoint import read_file
from cups.io.children import ignore_stop_signals
from cups.io.files import write_json
from cups.io.locking import one_writer
from cups.io.provenance import FILE_NAME as PROVENANCE
from cups.io.provenance import read_provenance
from cups.training.kept_checkpoints import checkpoint_to_resume, remove_leftovers
from cups.training.loggers import ID_FILE, build_loggers
from cups.training.processes import (
    end_with_launcher,
    is_first_process,
    leave_group_at_exit,
    precision_of,
    raise_open_file_limit,
    step_seed,
)
from cups.training.run_folder import (
    run_plugins,
    run_training,
    save_by_time,
    save_last_step,
)
from cups.training.sampling import StepSampler
from pseudo_labels.networks.devices import pick_device
from pseudo_labels.settings.training import Training
from pseudo_labels.steps.flags import settings_of
from pseudo_labels.steps.frames import FrameSource
from pseudo_labels.steps.options import RunOptions
from pseudo_labels.steps.resume import continued_training, training_provenance

log = logging.getLogger(__name__)


class Fit(pl.LightningModule):
    """A network with its losses; subclasses implement `losses`.

    Args:
        settings: those of the training, recorded and compared when it goes on.
    """

    def __init__(self, settings: Training) -> None:
        super().__init__()
        self.settings = settings

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return named scalars, already weighted; their sum is minimised and each is logged."""
        raise NotImplementedError

    def learning_rate_factor(self, step: int) -> float:
        """Return the learning rate at `step` relative to `lr`."""
        return 1.0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        kind = torch.optim.AdamW if self.settings.weight_decay > 0 else torch.optim.Adam
        optimizer = kind(parameters, lr=self.settings.lr, weight_decay=self.settings.weight_decay)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        torch.manual_seed(step_seed(self.settings.seed, self.global_step, self.global_rank))
        losses = self.losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            values = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
            raise UserError(
                f"`lr` {self.settings.lr}: the loss of step {self.global_step} is not finite ({values}); "
                "use a lower rate"
            )
        self.log("loss", loss.detach(), prog_bar=True)
        self.log_dict({f"losses/{name}": value.detach() for name, value in losses.items()})
        return loss


def train(
    fit: Fit,
    dataset: Dataset[Any],
    source: FrameSource,
    run: RunOptions,
    folder: Path,
    *,
    script: str,
    inputs: Sequence[Path] = (),
    weights: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Train all steps of `fit.settings`; started again, go on at the very step with the same draws.

    `folder` receives `provenance.json`, `csv/`, `tensorboard/` and `checkpoints/last.ckpt`. A finished run
    only loads its weights into `fit`. `overwrite` starts over.

    Args:
        dataset: `dataset[Draw]` returns what the default collate function batches; its length counts frames.
        source: the images behind the data set, for provenance.
        inputs: folders read, for provenance; the images' folder is always added.
        weights: checkpoints used, as entries of `refs/weights.yaml`.

    Raises:
        UserError: a folder with another run, a loss that is not finite.
        Stopped: a signal asked for it; the run is saved.
    """
    settings = fit.settings
    root = run.output_root or source.cityscapes_root or folder.parent
    content = training_provenance(source, settings, root, script=script, inputs=inputs, weights=weights)
    with only_training(folder):
        write_json(folder / PROVENANCE, _start(settings, folder, content, run.overwrite))
        _train(fit, dataset, folder)


def _train(fit: Fit, dataset: Dataset[Any], folder: Path) -> None:
    settings = fit.settings
    checkpoint = checkpoint_to_resume(folder, "copy one back, or add `overwrite` to start afresh")
    if is_first_process():
        remove_leftovers(folder)
    trainer = _build_trainer(settings, folder)
    step = 0 if checkpoint is None else _saved_step(checkpoint, fit)
    if checkpoint is not None:
        log.info("resuming at step %d of %d (%s)", step, settings.steps, checkpoint)
    run_training(trainer, fit, _loader(dataset, settings, trainer, step), checkpoint)
    save_last_step(trainer)


def only_training(folder: Path) -> AbstractContextManager[None]:
    """Be the only training that writes into a folder; the first process holds it for all of them.

    Raises:
        UserError: another one does; see `one_writer`.
    """
    return one_writer(folder, "give another `checkpoint_dir`") if is_first_process() else nullcontext()


def _start(settings: Training, folder: Path, content: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """Return the folder's provenance, compared with that of its run; clear that run with `overwrite`."""
    earlier = read_provenance(folder)
    if earlier is not None and not overwrite:
        return continued_training(folder, earlier, content, settings_of(settings))
    if overwrite:
        for name in ("checkpoints", "csv", "tensorboard"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / ID_FILE).unlink(missing_ok=True)
        for path in folder.glob("*.pth") if earlier is not None else ():
            path.unlink()  # the new provenance is not that of these weights
    return content


def _saved_step(checkpoint: Path, fit: Fit) -> int:
    """Return the step of a checkpoint.

    Raises:
        UserError: a damaged file, or another network's.
    """
    content = read_file(checkpoint, mapped=True)
    try:
        step, shapes = int(content["global_step"]), _shapes(content["state_dict"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"{checkpoint}: unreadable ({type(error).__name__}); remove it, or add `overwrite`"
        ) from None
    if shapes != _shapes(fit.state_dict()):
        raise UserError(f"{checkpoint}: of another network, perhaps an earlier version's; add `overwrite`")
    return step


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _build_trainer(settings: Training, folder: Path) -> pl.Trainer:
    device = pick_device(settings.device)
    raise_open_file_limit()
    leave_group_at_exit()
    end_with_launcher()
    devices = settings.num_gpus if device.index is None else [device.index]
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=devices,
        precision=precision_of(settings.precision),  # type: ignore[arg-type]
        max_steps=settings.steps,
        gradient_clip_val=settings.clip or None,
        log_every_n_steps=min(settings.log_every, settings.steps),
        use_distributed_sampler=False,
        logger=build_loggers(folder, settings.wandb_project, settings_of(settings, decides_only=False)),
        callbacks=[
            save_by_time(folder, settings.save_minutes, settings.save_every),
            LearningRateMonitor("step"),
            TQDMProgressBar(refresh_rate=10),
        ],
        plugins=run_plugins(),
        default_root_dir=folder,
        enable_model_summary=False,
    )


def _loader(
    dataset: Dataset[Any], settings: Training, trainer: pl.Trainer, first_step: int
) -> DataLoader[Any]:
    sampler = StepSampler(
        len(dataset),  # type: ignore[arg-type]
        settings.batch_size,
        settings.steps,
        seed=settings.seed,
        first_step=first_step,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    return DataLoader(
        dataset,
        settings.batch_size,
        sampler=sampler,
        num_workers=settings.num_workers,
        worker_init_fn=ignore_stop_signals,
        drop_last=True,
        pin_memory=torch.cuda.is_available(),
    )
