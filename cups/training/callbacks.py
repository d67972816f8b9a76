"""Pictures of a training run, written to the run folder and sent to W&B where it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger

from cups.data.utils import image_array
from cups.io.png import write_png
from cups.model import panoptic_from_output
from cups.structures import Sample, ThingStuffSplit
from cups.taxonomy import VOID, void_value
from cups.visualization import figure_sheet, overlay, pseudo_palette


def sample_to_panoptic(sample: Sample, num_stuffs: int, void: int = VOID) -> np.ndarray:
    """Return a training sample as (H, W, 2) int64 (category, instance), categories as the network's."""
    semantic = sample.sem_seg.cpu().numpy()
    category = np.where((semantic >= 1) & (semantic <= num_stuffs), semantic - 1, void)
    instance = np.zeros_like(category)
    for number, (mask, thing) in enumerate(
        zip(sample.masks.cpu().numpy(), sample.classes.tolist(), strict=True)
    ):
        category[mask] = num_stuffs + thing
        instance[mask] = number + 1
    return np.stack((category, instance), axis=-1)


def training_panel(media: dict[str, Any], split: ThingStuffSplit) -> np.ndarray:
    """Draw what the network was shown, and what it predicts on a validation frame: (H, W, 3) uint8."""
    colors = pseudo_palette(split.num_pseudo_classes)
    num_stuffs, void = len(split.stuffs), void_value(split.num_pseudo_classes)
    image = image_array(media["sample"].image)
    rows = [[image, overlay(image, sample_to_panoptic(media["sample"], num_stuffs, void), colors)]]
    names = ["training"]
    if "output" in media:
        image = image_array(media["validation"]["image"])
        prediction = panoptic_from_output(media["output"], num_stuffs, void).cpu().numpy()
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
        write_png(path, training_panel(module.media, module.split))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("training", [str(path)], step=trainer.global_step)
