"""Boundaries and their loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pseudo_labels.networks.joint_refine_training import balanced_cross_entropy


def test_balanced_cross_entropy__both_sides_weigh_the_same() -> None:
    target = torch.zeros(1, 1, 10)
    target[..., 0] = 1
    # At logit 0 each pixel costs ln 2: 0.1 of them weighs 0.9, 0.9 of them weigh 0.1.
    value: Callable[..., torch.Tensor] = balanced_cross_entropy
    assert value(torch.zeros(1, 1, 10), target).item() == pytest.approx(0.18 * np.log(2))
