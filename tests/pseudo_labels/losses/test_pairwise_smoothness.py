"""Agreement of pixels that look alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pseudo_labels.losses.pairwise_smoothness import (
    DILATIONS,
    DIRECTIONS,
    draw_pairs,
    pairwise_guide,
    pairwise_smoothness,
)


def test_pairwise_smoothness__equals_plain_loops() -> None:
    rng = np.random.default_rng(0)
    guide, scores = rng.normal(size=(3, 2, 2, 7)), rng.dirichlet(np.ones(4), size=(3, 2, 7))
    energy = weights = 0.0
    for image in range(3):
        for pair in range(7):
            difference = guide[image, :, 0, pair] - guide[image, :, 1, pair]
            weight = np.exp(-0.5 * np.sum(difference**2))
            energy += weight * (1 - scores[image, 0, pair] @ scores[image, 1, pair])
            weights += weight
    probabilities = torch.from_numpy(scores).permute(0, 3, 1, 2)
    found = pairwise_smoothness(probabilities, torch.from_numpy(guide))
    assert found.item() == pytest.approx(energy / weights)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 2), (40, 60)])
def test_draw_pairs__inside_at_one_offset_of_the_list(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    height, width = size
    found = set()
    for _ in range(300):
        first, second = draw_pairs(height, width, 9)
        assert min(first.min(), second.min()) >= 0 and max(first.max(), second.max()) < height * width
        down, right = second // width - first // width, second % width - first % width
        assert len(set(zip(down.tolist(), right.tolist(), strict=True))) == 1
        found.add((int(down[0]), int(right[0])))
    allowed = {(a * d, b * d) for d in DILATIONS for a, b in DIRECTIONS}
    fitting = {(a, b) for a, b in allowed if a < height and abs(b) < width}
    assert found == (fitting or {(0, 0)})


def test_pairwise_guide__each_cue_alone_parts_two_pixels() -> None:
    flat = (torch.full((1, 3, 1, 2), 0.5), torch.zeros(1, 1, 1, 2), torch.zeros(1, 4, 1, 2))
    assert pairwise_guide(*flat).diff(dim=3).abs().max() == 0
    for number in range(3):
        cues = [cue.clone() for cue in flat]
        cues[number][..., 1] += 1.0 if number == 2 else 0.4
        assert pairwise_guide(*cues).diff(dim=3).norm() > 1.9
