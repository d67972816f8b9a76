"""Stage 3's module: what the teacher sees, when it moves, what the student learns."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from cups.augmentation import BatchAugmentation, CopyPaste, Photometric, RandomCrop
from cups.builders.stage2 import optimizer_settings
from cups.config import build_config
from cups.data.utils import identity_collate
from cups.model.tta import Views
from cups.pl_model_self import SelfTrainingModule
from cups.structures import LoadedImage, ThingStuffSplit
from cups.taxonomy import WIDE_VOID
from cups.training.self_training import RoundSchedule, update_average

Builder = Callable[..., nn.Module]
SPLIT = ThingStuffSplit((4, 5, 6), (0, 1, 2, 3))


def _frames(count: int = 8) -> list[LoadedImage]:
    generator = torch.Generator().manual_seed(0)
    return [LoadedImage(torch.rand(3, 64, 96, generator=generator), f"frame{i}") for i in range(count)]


def _sure(build_tiny: Builder) -> nn.Module:
    """A random network that is sure of its finds, as random weights alone are not."""
    model = build_tiny(confidence_threshold=0.5)
    for predictor in model.roi_heads.box_predictor:
        predictor.cls_score.weight.data.mul_(50)
    return model


def _module(model: nn.Module, **options: Any) -> SelfTrainingModule:
    fixed = {"trainable": "heads", "views": Views(), "momentum": 0.999, "round_start": "keep"}
    fixed |= {"relative_threshold": 0.5, "ignore_unknown_things": False, "augmentation": BatchAugmentation()}
    fixed["draw_classes"] = False
    fixed["schedule"] = RoundSchedule(2, 2, 0.5, 0.2)
    settings = optimizer_settings(build_config(None, ["TRAINING.ADAMW.LEARNING_RATE", 1e-3]))
    return SelfTrainingModule(model, SPLIT, settings, **{**fixed, **options})


def _fit(module: SelfTrainingModule, steps: int, accumulate: int = 1) -> None:
    loader = DataLoader(_frames(), batch_size=1, collate_fn=identity_collate)  # type: ignore[arg-type]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        enable_model_summary=False,
        **quiet,  # type: ignore[arg-type]
    ).fit(module, loader)


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.filterwarnings("ignore")
def test_teacher__moves_once_per_optimiser_step(build_tiny: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream averages after every micro-batch: with accumulation the teacher runs ahead."""
    module = _module(build_tiny(), momentum=0.5)
    before = _weights(module.model)
    seen: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr("cups.pl_model_self.update_average", _recording(seen))
    _fit(module, steps=2, accumulate=3)
    assert len(seen) == 2, "two optimiser steps of three micro-batches"
    name = "sem_seg_head.predictor.weight"
    expected = 0.25 * before[name] + 0.25 * seen[0][name] + 0.5 * seen[1][name]
    torch.testing.assert_close(module.teacher_model.model.state_dict()[name], expected)
    assert not torch.equal(seen[0][name], seen[1][name])


def _recording(seen: list[dict[str, torch.Tensor]]) -> Callable[..., None]:
    def update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
        seen.append(_weights(student))
        update_average(teacher, student, momentum)

    return update


@pytest.mark.filterwarnings("ignore")
def test_training__changes_the_heads_alone(build_tiny: Builder) -> None:
    module = _module(build_tiny("MODEL.RESNETS.NORM", "BN", "MODEL.FPN.NORM", "BN"), momentum=0.9)
    before = _weights(module.model)
    _fit(module, steps=2)
    after = module.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("head" in name and "norm" not in name for name in changed)
    assert any(name.startswith("roi_heads") for name in changed)
    assert any(name.endswith("running_mean") for name in before), "the trunk has BatchNorm: it stays as it is"
    optimised = {id(p) for group in module.optimizers().param_groups for p in group["params"]}  # type: ignore[union-attr]
    assert optimised == {id(p) for p in module.model.parameters() if p.requires_grad}
    assert not any(p.requires_grad for p in module.teacher_model.parameters())


def test_frozen_trunk__gets_no_backward_pass(build_tiny: Builder) -> None:
    module = _module(build_tiny())
    features = module.model.backbone(torch.rand(1, 3, 64, 96))  # type: ignore[operator]
    assert not any(value.requires_grad for value in features.values())


@pytest.mark.filterwarnings("ignore")
def test_teacher__sees_the_clean_image_and_the_student_an_augmented_one(
    build_tiny: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    augmentation = BatchAugmentation(
        CopyPaste(8, min_side=2), RandomCrop((0.5, 0.5)), photometric=Photometric(blur_probability=1.0)
    )
    module = _module(_sure(build_tiny), augmentation=augmentation)
    taught: list[torch.Tensor] = []
    learnt: list[dict[str, Any]] = []
    teach, learn = module.teacher_model.forward, module.model.forward

    def watch_teacher(batch: list[dict[str, Any]], *drawing: Any) -> Any:
        taught.extend(item["image"] for item in batch)
        return teach(batch, *drawing)

    def watch_student(batch: list[dict[str, Any]]) -> Any:
        learnt.extend(batch)
        return learn(batch)

    monkeypatch.setattr(module.teacher_model, "forward", watch_teacher)
    monkeypatch.setattr(module.model, "forward", watch_student)
    _fit(module, steps=1)
    frame = _frames(1)[0].image
    assert torch.equal(taught[0], frame)
    assert learnt[0]["image"].shape == (3, 32, 48)
    sample = module.media["sample"]
    assert torch.equal(sample.image, frame), "pictures show the frame as it was labelled"
    assert len(sample.masks) > 0
    assert all((sample.sem_seg[mask] == 0).all() for mask in sample.masks)


def test_label__threshold_of_the_round(build_tiny: Builder) -> None:
    module = _module(_sure(build_tiny), schedule=RoundSchedule(2, 10, 0.5, 0.4))
    counts = []
    for step in (0, 10):
        module.trainer = _at(step)
        counts.append([float(len(sample.masks)) for sample in module.label(_frames(2), 0)])
        assert module.teacher_model.score_threshold == pytest.approx(0.5 + 0.4 * (step // 10))
    assert sum(counts[1]) < sum(counts[0])


def test_label__drawn_classes_are_those_of_the_step(build_tiny: Builder) -> None:
    """Objects stay what they are; their classes are drawn anew with each step, and alike in a resumed run."""

    def classes(step: int, draw: bool) -> list[int]:
        module.draw_classes = draw
        module.trainer = _at(step)
        return [number for sample in module.label(_frames(4), 0) for number in sample.classes.tolist()]

    model = build_tiny("MODEL.ROI_HEADS.THINGS_TOGETHER", True, confidence_threshold=0.5)
    for predictor in model.roi_heads.box_predictor:  # each box holds an object, of any class
        predictor.cls_score.weight.data.zero_()
        predictor.cls_score.bias.data.copy_(torch.tensor([2.0, 2.0, 2.0, 0.0]))
    module = _module(model, schedule=RoundSchedule(1, 10, 0.5, 0.0))
    drawn, again, later = (classes(step, draw=True) for step in (0, 0, 1))
    plain = classes(0, draw=False)
    assert len(plain) > 5 and set(plain) == {0}
    assert drawn == again != later and set(drawn) == {0, 1, 2}


@pytest.mark.parametrize("things_first", [False, True])
def test_label__void_is_what_the_merge_leaves_void_or_the_teacher_is_unsure_of(
    build_tiny: Builder, things_first: bool
) -> None:
    """Labels took the most probable channel whatever the merge did: void doubled, from 4.5 % to 10 %."""
    model = build_tiny("MODEL.PANOPTIC_FPN.COMBINE.THINGS_FIRST", things_first, confidence_threshold=1.0)
    # "Some thing" is the most probable channel nearly everywhere, but stuff together is more probable.
    model.sem_seg_head.predictor.weight.data *= 0.02
    model.sem_seg_head.predictor.bias.data.copy_(torch.tensor([0.9, 0.0, 0.0, 0.0, 0.0]))
    module = _module(model, ignore_unknown_things=True)
    module.trainer = _at(0)
    frames = _frames(2)
    outputs = module.teacher_model([{"image": frame.image} for frame in frames])
    labels = torch.stack([sample.sem_seg for sample in module.label(frames, 0)])
    merged = torch.stack([output["panoptic_seg"][0] for output in outputs])
    probabilities = torch.stack([output["sem_seg"] for output in outputs])
    sure = probabilities[:, 1:] > 0.5 * probabilities[:, 1:].amax(dim=(2, 3), keepdim=True)
    void = labels == WIDE_VOID
    if things_first:
        assert (labels[merged > 0] > 0).all(), "what is painted as stuff is taught as stuff, or not at all"
        assert not (void & (merged > 0) & sure.any(dim=1)).any()
    share = float(void.float().mean())
    assert share < 0.01 if things_first else share > 0.5


def _at(step: int) -> Any:
    return SimpleNamespace(global_step=step, global_rank=0, accumulate_grad_batches=1)


@pytest.mark.parametrize("option", ["keep", "teacher_to_student", "student_to_teacher"])
def test_round_start__copies_as_told(build_tiny: Builder, option: str) -> None:
    module = _module(build_tiny(), round_start=option)
    module.teacher_model.model.sem_seg_head.predictor.bias.data.fill_(1.0)
    module.model.sem_seg_head.predictor.bias.data.fill_(2.0)  # type: ignore[union-attr]
    for step in (1, 2):
        module.trainer = _at(step)
        module.on_train_batch_start([], batch_idx=step)
        student, teacher = (
            network.sem_seg_head.predictor.bias[0].item()
            for network in (module.model, module.teacher_model.model)
        )
        moved = {"keep": (2.0, 1.0), "teacher_to_student": (1.0, 1.0), "student_to_teacher": (2.0, 2.0)}
        assert (student, teacher) == (moved[option] if step == 2 else (2.0, 1.0))


def test_modes__the_teacher_never_trains(build_tiny: Builder) -> None:
    module = _module(build_tiny()).train()
    assert module.model.training and not module.teacher_model.model.training
    names = {name.split(".")[0] for name in module.state_dict()}
    assert names == {"model", "teacher_model"}
