"""Rounds, the teacher's average, targets from its output, what is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cups.model.modeling.meta_arch.merge import decide_semantic
from cups.taxonomy import WIDE_VOID
from cups.training.self_training import (
    RoundSchedule,
    select_trainable,
    semantic_targets,
    targets_from_output,
    update_average,
)

SCHEDULE = RoundSchedule(rounds=3, round_steps=500, threshold=0.7, threshold_step=0.05)


def test_schedule__confidence_rises_with_the_round() -> None:
    """Upstream has neither: `CONFIDENCE_STEP` is never read and the round stays 1."""
    steps = (0, 499, 500, 999, 1000, 1499, 2000)
    assert [SCHEDULE.round_of(step) for step in steps] == [0, 0, 1, 1, 2, 2, 2]
    assert [SCHEDULE.threshold_at(step) for step in (0, 500, 1000)] == pytest.approx([0.7, 0.75, 0.8])
    assert SCHEDULE.steps == 1500
    assert [step for step in range(1600) if SCHEDULE.begins_round(step)] == [500, 1000]
    assert RoundSchedule(20, 500, threshold=0.9, threshold_step=0.05).threshold_at(9999) < 1.0


def test_update_average__exact_after_n_steps() -> None:
    """t_n = m^n t_0 + (1 - m) sum_i m^(n-i) s_i; buffers as well, counters copied."""
    teacher, student = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
    start = teacher[0].weight.detach().clone()
    momentum, steps = 0.9, 5
    expected = momentum**steps * start
    expected_mean = torch.zeros(2)
    for step in range(1, steps + 1):
        student[0].weight.data.fill_(float(step))
        student[1].running_mean.fill_(float(step))
        student[1].num_batches_tracked.fill_(step)
        update_average(teacher, student, momentum)
        expected += (1 - momentum) * momentum ** (steps - step) * step
        expected_mean = momentum * expected_mean + (1 - momentum) * step
    torch.testing.assert_close(teacher[0].weight.detach(), expected)
    torch.testing.assert_close(teacher[1].running_mean, expected_mean)
    assert int(teacher[1].num_batches_tracked) == steps
    assert not torch.equal(teacher[0].weight, student[0].weight)
    update_average(teacher, student, 0.0)
    assert torch.equal(teacher[0].weight, student[0].weight), "momentum 0: the teacher is the student"


def test_select_trainable__heads_without_their_norms(build_tiny: Callable[..., nn.Module]) -> None:
    model = build_tiny()
    select_trainable(model, "all")
    assert all(parameter.requires_grad for parameter in model.parameters())
    select_trainable(model, "heads")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    prefixes = ("proposal_generator.rpn_head.", "roi_heads.", "sem_seg_head.")
    assert trained == {
        name for name, _ in model.named_parameters() if name.startswith(prefixes) and ".norm." not in name
    }
    assert any(".norm." in name for name, _ in model.named_parameters() if name.startswith("sem_seg_head."))
    select_trainable(model, "all")
    assert not model.backbone.fpn_lateral2.weight.requires_grad, "what is frozen stays frozen"


def test_semantic_targets__each_class_is_measured_by_its_own_maximum() -> None:
    # Three pixels, classes 0, 1, 2 with maxima 0.8, 0.7, 0.2, so limits 0.4, 0.35, 0.1.
    probabilities = torch.tensor(
        [
            [[0.80, 0.25, 0.38]],
            [[0.10, 0.70, 0.34]],
            [[0.10, 0.05, 0.20]],
        ]
    )
    # Third pixel: 0.38 and 0.34 are below their limits; the rare class 2 is as sure as it ever is.
    assert semantic_targets(probabilities, 0.5).tolist() == [[0, 1, 2]]
    assert semantic_targets(probabilities, 0.0).tolist() == [[0, 1, 0]]
    # At 1 even the maximum does not exceed its own limit.
    assert semantic_targets(probabilities, 1.0).tolist() == [[65535, 65535, 65535]]


@pytest.mark.parametrize("things_first", [False, True])
def test_semantic_targets__without_a_bar_they_are_the_merge_s(things_first: bool) -> None:
    probabilities = torch.randn(9, 40, 60, generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    merged = decide_semantic(probabilities, things_first)
    assert torch.equal(semantic_targets(probabilities, 0.0, things_first), merged)
    assert 0 < (merged == 0).float().mean() < 0.2


def test_semantic_targets__what_the_merge_paints_as_stuff_is_no_thing() -> None:
    """The most probable channel was "some thing" wherever stuff divided its probability among clusters."""
    # "Some thing", then three clusters of stuff; maxima 0.8, 0.6, 0.3, 0.3, so limits 0.4, 0.3, 0.15, 0.15.
    probabilities = torch.tensor(
        [
            [[0.80, 0.40, 0.45, 0.45, 0.10]],
            [[0.10, 0.00, 0.25, 0.27, 0.60]],
            [[0.05, 0.30, 0.14, 0.18, 0.00]],
            [[0.05, 0.30, 0.16, 0.10, 0.30]],
        ]
    )
    assert decide_semantic(probabilities, True).tolist() == [[0, 2, 1, 1, 1]]
    # Third and fourth pixel: the most probable cluster is below its bar, the next one is not; together with
    # clusters that no bar lets through they outweigh things.
    assert semantic_targets(probabilities, 0.5, True).tolist() == [[0, 2, 3, 2, 1]]
    assert semantic_targets(probabilities, 0.5, False).tolist() == [[0, 2, 0, 0, 1]]
    unsure = torch.tensor([[[0.8, 0.45]], [[0.1, 0.28]], [[0.1, 0.27]]])
    assert semantic_targets(torch.cat((unsure, 1 - unsure), dim=-1), 0.9, True)[0, 1] == WIDE_VOID


def test_targets__instances_are_some_thing_in_the_semantics() -> None:
    """Upstream keeps the stuff that the teacher saw inside an instance."""
    probabilities = torch.full((3, 4, 6), 0.1)
    probabilities[1] = 0.8  # stuff 1 everywhere, also under the object
    panoptic = torch.zeros(4, 6, dtype=torch.int32)
    panoptic[1:3, 1:4] = 1
    panoptic[0] = 2
    segments = [
        {"id": 1, "isthing": True, "category_id": 4, "score": 0.9, "instance_id": 0},
        {"id": 2, "isthing": False, "category_id": 1, "area": 6},
    ]
    image = torch.rand(3, 4, 6)
    sample = targets_from_output(
        {"sem_seg": probabilities, "panoptic_seg": (panoptic, segments)}, image, 0.5, "frame"
    )
    assert sample.classes.tolist() == [4] and sample.name == "frame"
    assert torch.equal(sample.masks[0], panoptic == 1)
    expected = torch.ones(4, 6, dtype=torch.int64)
    expected[1:3, 1:4] = 0
    assert torch.equal(sample.sem_seg, expected)
    assert torch.equal(sample.image, image)


def test_targets__no_instance_leaves_the_semantics() -> None:
    probabilities = torch.rand(3, 4, 6).softmax(dim=0)
    output = {"sem_seg": probabilities, "panoptic_seg": (torch.zeros(4, 6, dtype=torch.int32), [])}
    sample = targets_from_output(output, torch.rand(3, 4, 6), 0.5)
    assert sample.masks.shape == (0, 4, 6) and sample.classes.shape == (0,)
    assert torch.equal(sample.sem_seg, semantic_targets(probabilities, 0.5))


def test_targets__things_without_an_instance_are_void_when_asked() -> None:
    probabilities = torch.zeros(2, 1, 3)
    probabilities[0, 0, :2] = probabilities[1, 0, 2] = 1.0  # thing, thing, stuff; an instance on the first
    panoptic = torch.tensor([[1, 0, 0]], dtype=torch.int32)
    segments = [{"id": 1, "isthing": True, "category_id": 0, "score": 0.9, "instance_id": 0}]
    output = {"sem_seg": probabilities, "panoptic_seg": (panoptic, segments)}
    kept, ignored = (
        targets_from_output(output, torch.rand(3, 1, 3), 0.5, ignore_unknown_things=ignore).sem_seg.tolist()
        for ignore in (False, True)
    )
    assert (kept, ignored) == ([[0, 0, 1]], [[0, WIDE_VOID, 1]])
