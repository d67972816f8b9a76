"""What a training run notes beside its losses: pictures, speed and memory."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.profilers import Profiler

from cups.data.utils import image_array
from cups.io.png import write_png
from cups.model.inputs import panoptic_map_from_output
from cups.ops.panoptic_map import PanopticMap
from cups.structures import PseudoClasses, Sample
from cups.visualization import figure_sheet, overlay, pseudo_palette

FETCH = "[_TrainingEpochLoop].train_dataloader_next"
STEP = "run_training_batch"
"""What Lightning calls waiting for the loader, and forward, backward and optimiser together."""


def sample_to_panoptic(sample: Sample, pseudo: PseudoClasses) -> PanopticMap:
    """Return a training sample as a panoptic map, categories as the network's."""
    semantic = sample.sem_seg.cpu().numpy()
    category = np.where((semantic >= 1) & (semantic <= pseudo.stuffs), semantic - 1, pseudo.void)
    instance = np.zeros_like(category)
    for number, (mask, thing) in enumerate(
        zip(sample.masks.cpu().numpy(), sample.classes.tolist(), strict=True)
    ):
        category[mask] = pseudo.stuffs + thing
        instance[mask] = number + 1
    return PanopticMap.from_maps(category, instance)


def training_panel(media: dict[str, Any], pseudo: PseudoClasses) -> np.ndarray:
    """Draw what the network was shown, and what it predicts on a validation frame: (H, W, 3) uint8."""
    colors = pseudo_palette(pseudo.total)
    image = image_array(media["sample"].image)
    rows = [[image, overlay(image, sample_to_panoptic(media["sample"], pseudo), colors)]]
    names = ["training"]
    if "output" in media:
        image = image_array(media["validation"].image)
        prediction = panoptic_map_from_output(media["output"], pseudo)
        rows.append([image, overlay(image, prediction, colors)])
        names.append("validation")
    return figure_sheet(["image", "pseudo-labels or prediction"], rows, names)


class MediaLogger(Callback):
    """Writes `media/step_*.png` every few optimisation steps, on the first process."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Draw when a step is due; micro-batches of the same step draw once."""
        path = self.folder / f"step_{trainer.global_step:06d}.png"
        due = trainer.is_global_zero and trainer.global_step % self.every == 0
        if not due or path.exists() or "sample" not in module.media:
            return
        write_png(path, training_panel(module.media, module.split.pseudo_classes))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("training", [str(path)], step=trainer.global_step)


class StepClock(Profiler):
    """Sums the seconds of every action that Lightning announces."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self._started: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        """Note when an action begins."""
        self._started[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Add the time since it began."""
        started = self._started.pop(action_name, None)
        if started is not None:
            self.seconds[action_name] += time.perf_counter() - started


class Throughput(Callback):
    """Logs speed and memory every few optimisation steps.

    `speed/images_per_second` of all processes together and `speed/data_wait` (share of the time, 0-1, in
    which training waits for the loader) are of the steps since the last log, without validation, checkpoints
    and pictures. `memory/peak_gb` is the peak since the start: of CUDA memory, else of this process.

    Args:
        clock: the trainer's profiler.
        every: optimisation steps between logs.
    """

    def __init__(self, clock: StepClock, every: int) -> None:
        self.clock, self.every = clock, every
        self._images = 0
        self._logged_step = 0
        self._before: dict[str, float] = defaultdict(float)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start to count at the step that training starts from."""
        self._logged_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch; log when a log interval is full."""
        self._images += len(batch)
        if trainer.global_step - self._logged_step < self.every:
            return
        fetch, step = (self.clock.seconds[name] - self._before[name] for name in (FETCH, STEP))
        metrics = {
            "speed/images_per_second": self._images * trainer.world_size / max(fetch + step, 1e-9),
            "speed/data_wait": fetch / max(fetch + step, 1e-9),
            "memory/peak_gb": peak_memory() / 1e9,
        }
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
        self._images, self._logged_step, self._before = 0, trainer.global_step, self.clock.seconds.copy()


def peak_memory() -> int:
    """Return the peak bytes allocated on the CUDA device, or resident of this process without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
