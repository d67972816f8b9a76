"""Linear discriminants."""

from __future__ import annotations

import numpy as np
import torch

from pseudo_labels.algorithms.discriminant import Moments


def test_discriminants__tell_classes_in_spite_of_wrong_labels() -> None:
    """A third of the labels is drawn at random; the discriminants are right all the same."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    truth = rng.integers(4, size=6000)
    vectors = torch.from_numpy((4 * np.eye(4, 5)[truth] + rng.normal(size=(6000, 5))) @ mixing).float()
    labels = np.where(rng.random(6000) < 1 / 3, rng.integers(4, size=6000), truth)
    moments = Moments(6, 5)
    for part in torch.arange(6000).split(1000):
        moments.add(vectors[part], torch.from_numpy(labels)[part])
    weights, biases = moments.discriminants()
    found = (vectors @ weights.T + biases).argmax(dim=1).numpy()
    assert (found == truth).mean() > 0.98 and (labels == truth).mean() < 0.8
    assert not np.isin(found, (4, 5)).any(), "classes without a vector are not found"


def test_discriminants__are_those_of_gaussians() -> None:
    """Without shrinkage to speak of: log chance plus log density, up to what all classes share."""
    moments = Moments(2, 1)
    moments.add(
        torch.tensor([[-1.0], [1.0], [3.0], [5.0], [3.0], [5.0], [9.0]]), torch.tensor([0, 0, 1, 1, 1, 1, -1])
    )
    weights, biases = moments.discriminants()
    # Means 0 and 4, variance 1 within both.
    difference = (weights[1] - weights[0]).item(), (biases[1] - biases[0]).item()
    np.testing.assert_allclose(difference, (4.0, np.log(4.5 / 2.5) - 8.0), rtol=1e-5)
