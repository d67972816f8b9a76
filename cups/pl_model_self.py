"""Stage 3: self-training of the panoptic network on the labels of its own averaged teacher."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from cups.augmentation import BatchAugmentation
from cups.metrics import PanopticQualitySemanticMatching
from cups.model import freeze_batch_norm
from cups.model.tta import PanopticFPNWithTTA, Views
from cups.structures import LoadedImage, Sample, ThingStuffSplit
from cups.taxonomy import WIDE_VOID
from cups.training.choices import RoundStart, Trainable
from cups.training.module import PanopticModule
from cups.training.optimizer import OptimizerSettings
from cups.training.processes import step_seed
from cups.training.self_training import (
    RoundSchedule,
    select_trainable,
    targets_from_output,
    update_average,
)

LABELS = 1
"""Ends the seed by which labels are drawn: the same batch draws more than that."""


class SelfTrainingModule(PanopticModule):
    """Lightning module of Stage 3 (Hahn et al., CUPS, CVPR 2025, "self-training").

    The teacher labels the clean image from several views; the student learns from an augmented one. After
    every optimisation step (not micro-batch) the teacher moves a little towards the student.

    Args:
        model: the network of Stage 2; it becomes the student, a copy of it the teacher. Its BatchNorm layers
            are frozen.
        split, optimizer, metric, seed, description: see `PanopticModule`.
        augmentation: of the student's batch; pasted objects are the teacher's.
        schedule: see `RoundSchedule`.
        trainable: see `select_trainable`.
        views: sizes in which the teacher sees an image.
        momentum: of the teacher's average; at 0 the teacher is the student.
        relative_threshold, ignore_unknown_things: see `cups.training.self_training.targets_from_output`.
        draw_classes: the class of a teacher's object is drawn by its probabilities, anew each time the frame
            is seen. On average the student learns these; it does not make them surer than they are.
        round_start: what happens when a round begins. "keep" (upstream) lets both networks go on: the
            average is never interrupted, and the optimiser's moments stay those of its weights. The other
            two copy one network's weights to the other: restarting from the teacher forgets what it has not
            averaged yet, restarting from the student makes the next round trust it at once.
    """

    def __init__(
        self,
        model: nn.Module,
        split: ThingStuffSplit,
        optimizer: OptimizerSettings,
        augmentation: BatchAugmentation,
        schedule: RoundSchedule,
        *,
        trainable: Trainable,
        views: Views,
        momentum: float,
        relative_threshold: float,
        ignore_unknown_things: bool,
        draw_classes: bool,
        round_start: RoundStart,
        metric: PanopticQualitySemanticMatching | None = None,
        seed: int = 0,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        model = freeze_batch_norm(model)
        super().__init__(model, split, optimizer, metric, seed, description)
        select_trainable(model, trainable)
        self.teacher_model = PanopticFPNWithTTA(
            deepcopy(model).requires_grad_(False), views, schedule.threshold
        )
        self.batch_augmentation = augmentation
        self.schedule = schedule
        self.momentum = momentum
        self.relative_threshold = relative_threshold
        self.ignore_unknown_things = ignore_unknown_things
        self.draw_classes = draw_classes
        self.round_start = round_start
        # The teacher never trains: that is no oversight of which the trainer should warn.
        warnings.filterwarnings("ignore", r".*module\(s\) in eval mode at the start of training.*")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.schedule.begins_round(self.global_step) and self.micro_batch(batch_idx) == 0:
            self._begin_round()

    def _begin_round(self) -> None:
        teacher = self.teacher_model.model
        if self.round_start == "teacher_to_student":
            update_average(self.model, teacher, momentum=0.0)
        elif self.round_start == "student_to_teacher":
            update_average(teacher, self.model, momentum=0.0)

    def label(self, batch: Sequence[LoadedImage], micro_batch: int) -> list[Sample]:
        """Return the teacher's labels of a batch of clean images."""
        self.teacher_model.score_threshold = self.schedule.threshold_at(self.global_step)
        outputs = self.teacher_model(
            [{"image": loaded.image} for loaded in batch],
            self._generator_of_classes(micro_batch) if self.draw_classes else None,
        )
        # The labels decide between things and stuff as the merge that painted the instances did.
        things_first = self.teacher_model.model.combine_things_first
        return [
            targets_from_output(
                output,
                loaded.image,
                self.relative_threshold,
                loaded.name,
                self.ignore_unknown_things,
                things_first,
            )
            for output, loaded in zip(outputs, batch, strict=True)
        ]

    def _generator_of_classes(self, micro_batch: int) -> torch.Generator:
        seed = step_seed(self.seed, self.global_step, micro_batch, self.global_rank, LABELS)
        return torch.Generator().manual_seed(seed)

    def augment(self, batch: Sequence[Sample], micro_batch: int) -> list[Sample]:
        """Return the batch as the student is shown it; the input stays untouched."""
        return self.batch_augmentation(batch, batch, *self.generators(micro_batch))

    def training_step(self, batch: list[LoadedImage], batch_idx: int) -> Tensor:
        micro_batch = self.micro_batch(batch_idx)
        labelled = self.label(batch, micro_batch)
        self._log_labels(labelled)
        self.media |= {"sample": labelled[0]}
        return self.learn(self.augment(labelled, micro_batch), micro_batch)

    def _log_labels(self, labelled: Sequence[Sample]) -> None:
        void = torch.stack([(sample.sem_seg == WIDE_VOID).float().mean() for sample in labelled]).mean()
        self.log_dict(
            {
                "self_training/round": float(self.schedule.round_of(self.global_step) + 1),
                "self_training/threshold": self.teacher_model.score_threshold,
                "self_training/instances": sum(len(sample.masks) for sample in labelled) / len(labelled),
                "self_training/void": void,
            },
            batch_size=len(labelled),
        )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        update_average(self.teacher_model.model, self.model, self.momentum)
