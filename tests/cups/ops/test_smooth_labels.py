"""The argmax of upsampled scores, against upsampling all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cups.ops import smooth_labels as module
from cups.ops.smooth_labels import smooth_labels


def upsampled(scores: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(h, w, k) -> (k, H, W) float64, all of it."""
    return F.interpolate(scores.double().permute(2, 0, 1)[None], size=size, mode="bilinear")[0]


def blurred(shape: tuple[int, int, int], seed: int) -> torch.Tensor:
    """Random scores whose labels form regions."""
    noise = torch.randn(1, shape[2], *shape[:2], generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(noise, 3, stride=1, padding=1)[0].permute(1, 2, 0).contiguous()


@pytest.mark.parametrize("size", [(24, 40), (37, 53), (6, 10), (200, 330), (7, 400), (3, 4)])
@pytest.mark.parametrize("labels", [2, 5, 60])
def test_smooth_labels__is_the_argmax_of_all_upsampled_scores(size: tuple[int, int], labels: int) -> None:
    """The winners at corners and centre alone missed a tenth of the pixels of 300 street clusters."""
    for seed, make in enumerate((blurred, lambda shape, seed: blurred(shape, seed) ** 3)):
        scores = make((6, 10, labels), seed)
        exact, found = upsampled(scores, size), smooth_labels(scores, size)
        assert found.shape == size and found.dtype == torch.int64
        # Up to rounding: where another label was chosen, both score the same.
        chosen = exact.gather(0, found[None])[0]
        assert (exact.max(dim=0).values - chosen).max() < 1e-6
        assert (found == exact.argmax(dim=0)).float().mean() > 0.999


def test_smooth_labels__ties_go_to_the_lowest_label() -> None:
    # Small integers and weights of quarters: no rounding, many ties.
    scores = torch.randint(0, 3, (5, 7, 6), generator=torch.Generator().manual_seed(0)).float()
    size = (5 * 32, 7 * 32)
    assert (smooth_labels(scores, size) == upsampled(scores, size).argmax(dim=0)).all()


def test_smooth_labels__a_label_that_wins_only_inside_a_square() -> None:
    # Label 2 is second at every corner and first in the middle.
    scores = torch.tensor([[[4.0, 0, 3], [0, 4, 3]], [[0, 4, 3], [4, 0, 3]]])
    found = smooth_labels(scores, (64, 64))
    assert found[32, 32] == 2 and found[0, 0] == 0 and found[0, 63] == 1


@pytest.mark.parametrize("leaf", [1, 3, 1000])
def test_smooth_labels__size_of_the_leaves_does_not_matter(
    leaf: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, size = blurred((6, 9, 20), 3), (150, 260)
    expected = smooth_labels(scores, size)
    monkeypatch.setattr(module, "LEAF", leaf)
    assert (smooth_labels(scores, size) == expected).float().mean() > 0.9999


def test_strips__the_way_of_a_gpu_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, size = blurred((6, 9, 20), 4), (75, 131)
    monkeypatch.setattr(module, "STRIP_ELEMENTS", 20 * 131 * 10)
    assert (module._strips(scores, size) == smooth_labels(scores, size)).float().mean() > 0.9999


def test_smooth_labels__many_labels_do_not_overflow() -> None:
    scores = torch.zeros(2, 2, 70_000)
    scores[..., 69_999] = 1
    assert (smooth_labels(scores, (8, 8)) == 69_999).all()
    assert np.iinfo(np.uint16).max < 69_999


def test_smooth_labels__parts_of_any_size_share_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are painted some at a time, on the same arrays: nothing of one part may show in the next."""
    scores, size = blurred((6, 9, 40), 5), (150, 260)
    expected = smooth_labels(scores, size)
    for pixels in (1, 3000, 10**8):
        monkeypatch.setattr(module, "CHUNK_PIXELS", pixels)
        assert torch.equal(smooth_labels(scores, size), expected)


def test_squares__are_those_of_all_scores_with_repeated_borders() -> None:
    scores = blurred((4, 5, 12), 6).numpy()
    padded = np.pad(scores, ((1, 1), (1, 1), (0, 0)), mode="edge")
    corners = np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]])
    wanted = np.argwhere(corners.max(axis=0) >= corners.min(axis=0).max(axis=2, keepdims=True))
    blocks = module._squares(scores)
    found = np.stack((blocks.row[blocks.block], blocks.column[blocks.block], blocks.label), axis=1)
    assert np.array_equal(found, wanted)
    assert np.array_equal(blocks.values, corners[(slice(None), *wanted.T)])
