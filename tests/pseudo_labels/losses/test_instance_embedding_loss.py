"""The discriminative loss against its formula in plain loops, and by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pseudo_labels.losses.instance_embedding_loss import InstanceEmbeddingLoss, instance_embedding_loss


def by_loops(embeddings: Tensor, instances: Tensor, **changed: float) -> float:
    """De Brabandere et al. 2017, equations 1-4, one pixel and one pair after the other."""
    c = {"delta_v": 0.5, "delta_d": 1.5, "alpha": 1.0, "beta": 1.0, "gamma": 0.001, **changed}
    losses = []
    for embedding, ids in zip(embeddings.double().numpy(), instances.numpy(), strict=True):
        groups = [embedding[:, ids == number].T for number in np.unique(ids[ids > 0])]
        means = [group.mean(0) for group in groups]
        if not groups:
            losses.append(0.0)
            continue
        pull = 0.0
        for group, mean in zip(groups, means, strict=True):
            pull += np.mean([max(0, np.linalg.norm(mean - x) - c["delta_v"]) ** 2 for x in group])
        push = 0.0
        for a, b in itertools.permutations(means, 2):
            push += max(0, 2 * c["delta_d"] - np.linalg.norm(a - b)) ** 2
        count = len(groups)
        push = push / (count * (count - 1)) if count > 1 else 0.0
        size = np.mean([np.linalg.norm(mean) for mean in means])
        losses.append(c["alpha"] * pull / count + c["beta"] * push + c["gamma"] * size)
    return float(np.mean(losses))


@pytest.mark.parametrize("seed", range(5))
def test_instance_embedding_loss__equals_the_formula_in_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, height, width = int(rng.integers(1, 4)), int(rng.integers(3, 9)), int(rng.integers(3, 9))
    # Ids with gaps, also above 16 bits; the same id in two images is two instances.
    ids = rng.choice([0, 0, 1, 2, 5, 70000], size=(batch, height, width))
    instances = torch.from_numpy(ids)
    embeddings = torch.from_numpy(rng.normal(size=(batch, 3, height, width)).astype(np.float32) * 2)
    changed = {"delta_v": 0.3, "beta": 0.7, "gamma": 0.1} if seed % 2 else {}
    value = instance_embedding_loss(embeddings, instances, **changed)
    assert value.item() == pytest.approx(by_loops(embeddings, instances, **changed), rel=1e-5)


def test_instance_embedding_loss__by_hand() -> None:
    # Instance 1 at 0 and 4: mean 2, both 2 away: pull (2 - 0.5)^2 = 2.25. Instance 2 at 3: pull 0.
    # Means 2 and 3: push (3 - 1)^2 = 4. Regulariser 0.001 * 2.5. The background's 100 counts nowhere.
    embeddings = torch.tensor([0.0, 4.0, 3.0, 100.0]).view(1, 1, 1, 4)
    instances = torch.tensor([1, 1, 2, 0]).view(1, 1, 4)
    value = instance_embedding_loss(embeddings, instances)
    assert value.item() == pytest.approx(2.25 / 2 + 4 + 0.0025)
    assert InstanceEmbeddingLoss(beta=0)(embeddings, instances).item() == pytest.approx(1.1275)


def test_instance_embedding_loss__one_instance_is_not_pushed() -> None:
    embeddings = torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)
    value = instance_embedding_loss(embeddings, torch.ones(1, 1, 2, dtype=torch.int64))
    assert value.item() == pytest.approx(2.25 + 0.002)


def test_instance_embedding_loss__no_instance_is_zero_with_a_graph() -> None:
    embeddings = torch.randn(2, 4, 3, 3, requires_grad=True)
    value = instance_embedding_loss(embeddings, torch.zeros(2, 3, 3, dtype=torch.int64))
    assert value.item() == 0.0
    value.backward()
    assert embeddings.grad is not None and not embeddings.grad.any()


def test_instance_embedding_loss__gradient_is_finite_where_all_points_coincide() -> None:
    embeddings = torch.zeros(1, 2, 2, 2, requires_grad=True)
    instance_embedding_loss(embeddings, torch.tensor([[[1, 1], [2, 2]]])).backward()
    assert embeddings.grad is not None and embeddings.grad.isfinite().all()


def test_instance_embedding_loss__gradient_equals_finite_differences() -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(1, 2, 2, 3) * 2
    instances = torch.tensor([[[1, 1, 2], [2, 0, 2]]])
    leaf = embeddings.clone().requires_grad_()
    instance_embedding_loss(leaf, instances).backward()
    assert leaf.grad is not None
    for index in np.ndindex(*embeddings.shape):
        step = torch.zeros_like(embeddings)
        step[index] = 1e-3
        slope = (by_loops(embeddings + step, instances) - by_loops(embeddings - step, instances)) / 2e-3
        assert leaf.grad[index].item() == pytest.approx(slope, abs=1e-3)


@pytest.mark.parametrize("kind", [{"dtype": torch.bfloat16}, {"dtype": torch.float16}])
def test_instance_embedding_loss__is_computed_in_float32(kind: dict[str, Any]) -> None:
    # A thousand pixels at 1000: in 16 bits their sum would overflow, or lose every other digit.
    embeddings = torch.full((1, 1, 32, 32), 1000.0).to(**kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = instance_embedding_loss(embeddings, torch.ones(1, 32, 32, dtype=torch.int64))
    assert value.dtype == torch.float32 and value.item() == pytest.approx(1.0)
