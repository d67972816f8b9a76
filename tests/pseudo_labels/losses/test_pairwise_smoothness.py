"""Agreement of pixels that look alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pseudo_labels.losses.pairwise_smoothness import (
    DILATIONS,
    local_agreement,
    pairwise_guide,
    pairwise_smoothness,
)


def neighbours(y: int, x: int, height: int, width: int) -> list[tuple[int, int]]:
    around = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
    places = [(y + a * d, x + b * d) for d in DILATIONS for a, b in around]
    return [(r, c) for r, c in places if 0 <= r < height and 0 <= c < width]


def test_local_agreement_and_smoothness__equal_plain_loops() -> None:
    rng = np.random.default_rng(0)
    height, width, classes = 5, 19, 3
    labels = rng.integers(-1, classes, size=(height, width))
    guide = rng.normal(size=(2, height, width))
    scores = rng.dirichlet(np.ones(classes), size=(height, width))
    agreement, energy, weights = np.zeros((height, width)), 0.0, 0.0
    for y in range(height):
        for x in range(width):
            total = equal = 1.0
            for r, c in neighbours(y, x, height, width):
                weight = np.exp(-0.5 * np.sum((guide[:, y, x] - guide[:, r, c]) ** 2))
                energy += weight * (1 - scores[y, x] @ scores[r, c])
                weights += weight
                if labels[y, x] >= 0 and labels[r, c] >= 0:
                    total += weight
                    equal += weight * (labels[y, x] == labels[r, c])
            agreement[y, x] = equal / total if labels[y, x] >= 0 else 0
    maps = torch.from_numpy(guide).float()[None]
    found = local_agreement(torch.from_numpy(labels)[None], maps)[0]
    np.testing.assert_allclose(found.numpy(), agreement, rtol=1e-5)
    smooth = pairwise_smoothness(torch.from_numpy(scores).permute(2, 0, 1)[None].float(), maps)
    assert smooth.item() == pytest.approx(2 * energy / weights, rel=1e-5)


def test_local_agreement__speckles_are_doubted_and_edges_are_not() -> None:
    # Left half dark, right half bright, labels follow; one wrong pixel amid the dark half.
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8:] = 1.0
    labels = (image[:, 0] > 0.5).long()
    labels[0, 8, 3] = 1
    guide = pairwise_guide(image, torch.zeros(1, 1, 16, 16), torch.zeros(1, 2, 16, 16))
    agreement = local_agreement(labels, guide)[0]
    assert agreement[8, 3] < 0.1
    assert agreement[:, 8:].min() > 0.99 and agreement[0, 7] > 0.99


def test_pairwise_guide__each_cue_alone_parts_two_pixels() -> None:
    flat = (torch.full((1, 3, 1, 2), 0.5), torch.zeros(1, 1, 1, 2), torch.zeros(1, 4, 1, 2))
    assert pairwise_guide(*flat).diff(dim=3).abs().max() == 0
    for number in range(3):
        cues = [cue.clone() for cue in flat]
        cues[number][..., 1] += 1.0 if number == 2 else 0.4
        assert pairwise_guide(*cues).diff(dim=3).norm() > 1.9


def test_pairwise_smoothness__maps_smaller_than_the_offsets() -> None:
    one = torch.full((1, 2, 1, 1), 0.5, requires_grad=True)
    assert pairwise_smoothness(one, torch.zeros(1, 1, 1, 1)).item() == 0
    row = torch.full((1, 2, 1, 3), 0.5)
    assert pairwise_smoothness(row, torch.zeros(1, 1, 1, 3)).item() == pytest.approx(1.0)
