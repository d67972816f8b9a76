"""Semantic loss: ignored pixels and class weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cups.model.modeling.meta_arch import semantic_loss as module
from cups.model.modeling.meta_arch.semantic_loss import semantic_loss


def test_semantic_loss__equals_the_plain_mean_over_labelled_pixels() -> None:
    logits = torch.randn((2, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    targets = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    targets[0, :2] = 255
    weights = torch.tensor([0.2, 1.0, 3.0])
    for weight in (None, weights):
        expected = F.cross_entropy(logits, targets, weight=weight, ignore_index=255)
        assert semantic_loss(logits, targets, weight, 255) == pytest.approx(float(expected), rel=1e-5)


def test_semantic_loss__nothing_labelled_is_zero_with_gradient() -> None:
    """Upstream: 0 / 0, so one unlabelled batch made the whole network NaN."""
    logits = torch.randn((1, 3, 4, 4), requires_grad=True)
    for weight in (None, torch.ones(3)):
        loss = semantic_loss(logits, torch.full((1, 4, 4), 255), weight, 255)
        loss.backward()
        assert float(loss.detach()) == 0
        assert logits.grad is not None and logits.grad.eq(0).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 7, 100])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_semantic_loss__in_strips_equals_the_enlarged_whole(
    monkeypatch: pytest.MonkeyPatch, rows: int, weighted: bool, stride: int
) -> None:
    """Value and gradient; the 8 intervals of 7 rows in strips of 3 leave a last strip of two."""
    logits = torch.randn((2, 5, 7, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.randint(0, 5, (2, 7 * stride, 6 * stride), generator=torch.Generator().manual_seed(1))
    targets[0, 5:9] = 65535
    weights = torch.rand(5, dtype=torch.float64) + 0.5 if weighted else None
    results = []
    for strips in (False, True):
        part = logits.clone().requires_grad_()
        if strips:
            monkeypatch.setitem(module.STRIP_ELEMENTS, "cpu", rows * 5 * 6 * stride**2)
            loss = semantic_loss(part, targets, weights, 65535, stride)
        else:
            enlarged = F.interpolate(part, scale_factor=stride, mode="bilinear", align_corners=False)
            loss = F.cross_entropy(enlarged, targets, weight=weights, ignore_index=65535)
        (3 * loss).backward()
        results.append((loss.detach(), part.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


def test_semantic_loss__strips_without_a_label_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.STRIP_ELEMENTS, "cpu", 1)
    logits = torch.randn((1, 3, 4, 4), requires_grad=True)
    loss = semantic_loss(logits, torch.full((1, 16, 16), 255), None, 255, stride=4)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None and logits.grad.eq(0).all()


def test_class_weights__first_is_the_generic_thing_class(build_tiny: Callable[..., nn.Module]) -> None:
    """Upstream put the thing weight last although channel 0 is the thing class: all were shifted by one."""
    head = build_tiny(class_weights=[0.0, 1.0, 1.0, 1.0, 1.0]).sem_seg_head
    predictions = torch.randn((1, 5, 4, 4), generator=torch.Generator().manual_seed(0))
    things = torch.zeros((1, 16, 16), dtype=torch.int64)
    assert float(head.losses(predictions, things)["loss_sem_seg"]) == 0
    assert float(head.losses(predictions, things + 4)["loss_sem_seg"]) > 0


def test_class_weights__are_not_in_the_state_dict(build_tiny: Callable[..., nn.Module]) -> None:
    assert not any("class_weights" in name for name in build_tiny(class_weights=[1.0] * 5).state_dict())


def test_class_weights__wrong_number_is_refused(build_tiny: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="4 class weights for 5 semantic channels"):
        build_tiny(class_weights=[1.0] * 4)


def test_loss__is_scaled_by_a_half(build_tiny: Callable[..., nn.Module]) -> None:
    head = build_tiny().sem_seg_head
    loss = head.losses(torch.zeros((1, 5, 4, 4)), torch.ones((1, 16, 16), dtype=torch.int64))
    assert float(loss["loss_sem_seg"]) == pytest.approx(0.5 * float(torch.tensor(5.0).log()), rel=1e-5)
