"""CAUSE parts on hand-checkable cases."""

from __future__ import annotations

import math

import pytest
import torch

from refs.cause import (
    MemoryBank,
    SegmentTR,
    contrastive_loss,
    ema_update,
    flip_average,
    modularity_loss,
    sample_tokens,
)


def small() -> SegmentTR:
    torch.manual_seed(0)
    return SegmentTR(dim=8, reduced_dim=4, projection_dim=6, num_classes=3, num_queries=16, hidden=8).eval()


def test_head__takes_another_grid() -> None:
    """Published heads know one square grid; ours resize the positions."""
    model, codebook = small(), torch.randn(5, 8)
    features = torch.randn(2, 24, 8)
    assert model.head_ema(features, codebook, (4, 6)).shape == (2, 24, 4)
    assert torch.equal(model.head.positions((4, 4)), model.head.query_pos)


def test_head__positions_that_are_no_square_cannot_be_resized() -> None:
    model = SegmentTR(dim=8, reduced_dim=4, projection_dim=6, num_queries=15, hidden=8)
    assert model.head(torch.randn(1, 15, 8), torch.randn(5, 8)).shape == (1, 15, 4)
    with pytest.raises(ValueError, match="no square"):
        model.head.positions((4, 4))


def test_ema_update__is_exact_and_teacher_takes_no_gradient() -> None:
    model = small()
    before = model.head_ema.query_pos.clone()
    with torch.no_grad():
        model.head.query_pos.add_(1.0)
    ema_update(model, decay=0.9)
    torch.testing.assert_close(model.head_ema.query_pos, before + 0.1)
    assert not any(p.requires_grad for p in model.head_ema.parameters())


def test_flip_average__mirrors_columns() -> None:
    # grid 1 x 3: codes 0 1 2, of the mirrored image 2 1 0
    codes = torch.tensor([[[0.0], [1.0], [2.0]]])
    assert torch.equal(flip_average(codes, codes.flip(1), (1, 3)), codes)


def test_modularity_loss__two_separate_groups() -> None:
    """Tokens a a b b with a, b orthogonal, one centre each: modularity of two disjoint edges.

    A has 2 edges (4 ones), d = 1 each, e = 4; W/e = (A - 1/4) / 4. delta is tanh(10) inside a group and
    0 across: sum over the 8 inside pairs = (4 * (1 - 1/4) + 4 * (0 - 1/4)) / 4 = 1/2.
    """
    a, b = [1.0, 0.0], [0.0, 1.0]
    loss = modularity_loss(torch.tensor([[a, a, b, b]]), torch.tensor([a, b]))
    assert loss.item() == pytest.approx(-0.5 * math.tanh(10.0))


def test_sample_tokens__one_in_each_cell() -> None:
    tokens = sample_tokens(torch.zeros(1, 64, 1), (8, 8), torch.Generator().manual_seed(0))
    cells = {(int(t) // 8 // 4, int(t) % 8 // 4) for t in tokens}
    assert len(tokens) == 4 and cells == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_contrastive_loss__one_positive_one_negative() -> None:
    """Anchor equals its positive (cosine 1) and is orthogonal to its negative: log(1 + e^(-1/0.07)).

    A pair with a cosine of codebook rows between the thresholds counts as little as a token and itself.
    """
    anchor = torch.tensor([[[1.0, 0.0]]])
    others = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    relation = torch.tensor([[[1.0, 0.0, torch.nan, 0.2]]])
    loss = contrastive_loss(anchor, others, relation)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1 / 0.07)), abs=2e-6)


def test_contrastive_loss__positives_share_the_probability() -> None:
    """Published: the denominator holds all positives and negatives, so two equal positives give log 2 each.

    Pairs are averaged over the image, images over the batch; an image without a positive does not count.
    """
    near, far = [1.0, 0.0], [0.0, 1.0]
    others = torch.tensor([near, near, far])
    two, one, none = [1.0, 1.0, 0.2], [1.0, 0.2, 0.2], [0.2, 0.2, 0.0]
    images = torch.tensor([[near, near], [near, near], [near, near]])
    relation = torch.tensor([[two, one], [one, none], [none, none]])
    expected = ((math.log(2) + math.log(2) + 0) / 3 + 0) / 2
    assert contrastive_loss(images, others, relation).item() == pytest.approx(expected, abs=1e-6)
    # A negative at the place of the anchor costs as much as a positive there.
    relation = torch.tensor([[[1.0, 0.0, 0.2]]])
    assert contrastive_loss(images[:1, :1], others, relation).item() == pytest.approx(math.log(2))


def test_contrastive_loss__has_a_gradient_where_an_anchor_has_no_pair_at_all() -> None:
    anchors = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], requires_grad=True)
    loss = contrastive_loss(anchors, torch.eye(2), torch.tensor([[[1.0, 0.0], [0.2, 0.2]]]))
    loss.backward()
    assert anchors.grad is not None and torch.isfinite(anchors.grad).all()


def test_contrastive_loss__without_positives_is_zero_with_a_gradient() -> None:
    anchor = torch.ones(1, 1, 2, requires_grad=True)
    loss = contrastive_loss(anchor, torch.ones(1, 2), torch.zeros(1, 1, 1))
    loss.backward()
    assert loss.item() == 0.0 and anchor.grad is not None


def test_memory_bank__keeps_the_newest_of_each_code() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = MemoryBank(num_codes=2, per_code=2, dim=1)
    for value in range(5):
        bank.add(torch.full((1, 1), float(value)), torch.tensor([1]), generator, share=1.0)
    features, codes = bank.sample(10, generator)
    assert sorted(features.flatten().tolist()) == [3.0, 4.0] and codes.tolist() == [1, 1]
    bank.add(torch.arange(6.0)[:, None], torch.tensor([0, 0, 0, 1, 1, 1]), generator, share=1.0)
    assert len(bank.sample(10, generator)[1]) == 4


def test_memory_bank__takes_half_of_each_row() -> None:
    """Of 4, 3 and 1 features of three rows: 2, 1 and none."""
    generator = torch.Generator().manual_seed(0)
    bank = MemoryBank(num_codes=4, per_code=5, dim=1)
    rows = torch.tensor([0, 1, 0, 3, 0, 1, 0, 1])
    bank.add(torch.arange(8.0)[:, None], rows, generator)
    features, stored = bank.sample(10, generator)
    assert torch.bincount(stored, minlength=4).tolist() == [2, 1, 0, 0]
    assert torch.equal(rows[features.flatten().long()], stored) and len(set(features.flatten().tolist())) == 3
