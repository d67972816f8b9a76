"""What a training without ground truth is told by: measures on held-out images alone."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from cups.training.round_selection import Consistency

log = logging.getLogger(__name__)


class LabelFreeMeasures(Callback):
    """Logs consistency, share of void and objects per image every few optimisation steps.

    None of them tells how good a network is, but each tells when it goes wrong: void that stays high, no
    object at all, predictions that do not survive another view. Every process measures by itself, so none
    has to wait.

    Args:
        views: held-out images, and from which views they are predicted.
        every: optimisation steps between two measures.
    """

    def __init__(self, views: Consistency, every: int) -> None:
        self.views, self.every = views, every
        self._measured = 0

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Start to count at the step that training starts from."""
        self._measured = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Measure once when a step is due."""
        step = trainer.global_step
        if step == self._measured or step % self.every:
            return
        self._measured = step
        training = module.model.training
        found = self.views.compare(module.model.eval())
        module.model.train(training)
        module.media |= {"validation": self.views.frames[0], "output": found.first}
        measures = {"consistency": found.agreement, "void": found.void, "objects_per_image": found.objects}
        for logger in trainer.loggers:
            logger.log_metrics({f"label_free/{key}": value for key, value in measures.items()}, step=step)
        log.info(
            "step %d, without ground truth: consistency %.3f, void %.1f %%, %.1f objects per image",
            step, found.agreement, 100 * found.void, found.objects,
        )  # fmt: skip
