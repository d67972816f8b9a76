"""What a training without ground truth logs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from cups.training.label_free import LabelFreeMeasures


class _Logger:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))


def test_measures__once_every_few_steps_whatever_the_micro_batches() -> None:
    found = SimpleNamespace(agreement=0.5, void=0.1, objects=3.0, first="output")
    seen: list[bool] = []
    views: Any = SimpleNamespace(
        compare=lambda model: seen.append(model.training) or found, frames=["first", "second"]
    )
    module: Any = SimpleNamespace(model=nn.Linear(1, 1), media={"sample": "shown"})
    logger = _Logger()
    trainer: Any = SimpleNamespace(global_step=2, loggers=[logger])
    callback = LabelFreeMeasures(views, every=2)
    callback.on_train_start(trainer, module)
    for step in (2, 3, 3, 4, 4, 5, 6):
        trainer.global_step = step
        callback.on_train_batch_end(trainer, module)
    assert [step for step, _ in logger.rows] == [4, 6]
    names = ("consistency", "void", "objects_per_image")
    assert logger.rows[0][1] == pytest.approx(
        dict(zip((f"label_free/{name}" for name in names), (0.5, 0.1, 3.0), strict=True))
    )
    assert seen == [False, False] and module.model.training, "measured in evaluation, trained on"
    assert module.media == {"sample": "shown", "validation": "first", "output": "output"}
