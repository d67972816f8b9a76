"""Steps of Stage 3: a teacher with test-time augmentation labels the batch, the student learns.

Networks here are untrained, so the student is shown the labels that were drawn, whatever the teacher finds;
and the teacher's bar is so low that it carries as many objects as an image holds through all views.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from cups.augmentation import BatchAugmentation, CopyPaste, Photometric
from cups.backbones import autocast
from cups.model import freeze_batch_norm
from cups.model.tta import PanopticFPNWithTTA, Views
from cups.ops.resize import resize_image, scaled_size
from cups.training.self_training import select_trainable, targets_from_output, update_average
from studies.benchmarks.settings import TrainStepSettings
from studies.benchmarks.train_step import FORMATS, Batch, Maker, Step, plain_network, training_step

SCALES = (0.5, 0.75, 1.0)
MOMENTUM = 0.999
LOWEST_SCORE = 0.01


def _of_many_objects(network: Any, settings: TrainStepSettings) -> Any:
    """Let a network find as many objects as an image has, in place."""
    network.combine_instances_score_thresh = LOWEST_SCORE
    last = network.roi_heads.box_predictor[-1]
    last.test_score_thresh, last.test_topk_per_image = LOWEST_SCORE, settings.objects
    return network


def our_step(model: nn.Module, settings: TrainStepSettings) -> Step:
    """Return our step: six views in three passes, heads alone trained, augmentation without copies."""
    student = _of_many_objects(freeze_batch_norm(model), settings)
    teacher = PanopticFPNWithTTA(
        deepcopy(student).requires_grad_(False), Views(SCALES, flip=True), LOWEST_SCORE
    )
    select_trainable(student, "heads")
    augment = BatchAugmentation(CopyPaste(8, 32), photometric=Photometric(1.0))
    learn = training_step(student, settings)
    device = torch.device(settings.device)

    def step(batch: Batch) -> None:
        with autocast(device, FORMATS[settings.precision]):
            outputs = teacher([{"image": sample.image} for sample in batch])
            for output, sample in zip(outputs, batch, strict=True):
                targets_from_output(output, sample.image, 0.5)
            shown = augment(batch, batch, torch.Generator().manual_seed(len(batch)))
        learn(shown)
        update_average(teacher.model, student, MOMENTUM)

    return step


def views_one_by_one(
    student: nn.Module, teacher: nn.Module, settings: TrainStepSettings, passes: int
) -> Step:
    """Return a step whose teacher runs all of inference on each view apart, and whose student trains whole.

    Args:
        passes: how often each view passes the teacher; upstream's does once for boxes, once for masks.
    """
    learn = training_step(student, settings)
    teacher.eval().requires_grad_(False)

    @torch.no_grad()
    def label(batch: Batch) -> None:
        for sample in batch:
            for scale in SCALES:
                view = resize_image(sample.image, scaled_size(sample.size, scale))
                for seen in (view, view.flip(-1)):
                    for _ in range(passes):
                        teacher([{"image": seen}])

    def step(batch: Batch) -> None:
        with autocast(torch.device(settings.device), FORMATS[settings.precision]):
            label(batch)
        learn(deepcopy(batch))
        update_average(teacher, student, MOMENTUM)

    return step


def makers(settings: TrainStepSettings) -> dict[str, Maker]:
    """Return, by name, what makes of our network the step of each contender."""

    def upstream(model: nn.Module) -> Step:
        student = _of_many_objects(freeze_batch_norm(model), settings)
        return views_one_by_one(student, deepcopy(student), settings, passes=2)

    def plain(model: nn.Module) -> Step:
        student = _of_many_objects(freeze_batch_norm(plain_network(model, settings)), settings)
        return views_one_by_one(student, deepcopy(student), settings, passes=1)

    return {
        "ours": lambda model: our_step(model, settings),
        "upstream's habits": upstream,
        "plain detectron2": plain,
    }
