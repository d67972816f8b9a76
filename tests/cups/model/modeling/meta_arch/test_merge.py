"""Panoptic merge, on maps small enough to check by hand and against a literal loop."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from cups.model.modeling.meta_arch import decide_semantic, merge_panoptic
from cups.model.modeling.meta_arch.merge import agreed_scores, crops_of


def instances(masks: torch.Tensor, scores: list[float], classes: list[int]) -> Instances:
    return Instances(
        tuple(masks.shape[1:]),
        pred_masks=masks,
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )


def strip(*ranges: tuple[int, int], width: int = 8) -> torch.Tensor:
    masks = torch.zeros((len(ranges), 1, width), dtype=torch.bool)
    for mask, (start, stop) in zip(masks, ranges, strict=True):
        mask[:, start:stop] = True
    return masks


NOTHING = torch.zeros((1, 8), dtype=torch.int64)


def test_decide_semantic__stuff_split_among_pseudo_classes_wins_together() -> None:
    # two pixels; the second is a thing by any rule
    probabilities = torch.tensor([[0.4, 0.6], [0.25, 0.3], [0.35, 0.1]])[:, None]
    assert decide_semantic(probabilities).tolist() == [[0, 0]]
    assert decide_semantic(probabilities, things_first=True).tolist() == [[2, 0]]


def test_merge__half_covered_instance_stays_more_is_left_out() -> None:
    # first   A A A A . . . .
    # second  . . B B B B . .   half of it is taken: kept, 2 px
    # third   . C C C C C . .   all taken: left out
    found = instances(strip((0, 4), (2, 6), (1, 6)), [0.9, 0.8, 0.7], [0, 1, 2])
    panoptic, segments = merge_panoptic(found, NOTHING)
    assert panoptic.tolist() == [[1, 1, 1, 1, 2, 2, 0, 0]]
    assert [s["category_id"] for s in segments] == [0, 1]


def test_merge__order_is_by_score_and_ties_by_position() -> None:
    found = instances(strip((0, 4), (0, 4), (4, 8)), [0.6, 0.6, 0.9], [0, 1, 2])
    panoptic, segments = merge_panoptic(found, NOTHING)
    assert panoptic.tolist() == [[2, 2, 2, 2, 1, 1, 1, 1]]
    assert [s["instance_id"] for s in segments] == [2, 0]


THINGS = torch.tensor([[1.0, 0.5, 0.5, 0.0, 0.01, 0.01, 0.2, 0.4]])


def test_agreed_scores__weighted_geometric_mean_of_both_heads() -> None:
    crop_of = crops_of(strip((0, 4), (4, 6), (6, 8), (2, 2)))
    scores = [0.5, 0.9, 0.3, 0.7]
    expected = [0.5, 0.9**0.5 * 0.01**0.5, 0.3, 0.7]  # means 0.5, 0.01, 0.3; a mask without pixels
    assert agreed_scores(scores, crop_of, THINGS, 0.5) == pytest.approx(expected, abs=1e-6)
    assert agreed_scores(scores, crop_of, THINGS, 1.0) == pytest.approx([0.5, 0.01, 0.3, 0.7], abs=1e-6)
    assert agreed_scores(scores, crop_of, THINGS, 0.0) == scores
    assert agreed_scores([], crops_of(strip()), THINGS, 0.5) == []


def test_merge__what_the_semantic_head_does_not_see_goes_and_comes_last() -> None:
    found = instances(strip((0, 4), (4, 6), (6, 8)), [0.6, 0.9, 0.95], [0, 1, 2])
    _, segments = merge_panoptic(found, NOTHING, thing_probability=THINGS, semantic_weight=0.0)
    assert [s["category_id"] for s in segments] == [2, 1, 0]
    _, segments = merge_panoptic(found, NOTHING, thing_probability=THINGS, semantic_weight=0.3)
    # 0.6^0.7 0.5^0.3 = 0.568, 0.9^0.7 0.01^0.3 = 0.233, 0.95^0.7 0.3^0.3 = 0.672
    assert [(s["category_id"], round(s["score"], 3)) for s in segments] == [(2, 0.672), (0, 0.568)]


def test_merge__low_scores_and_empty_masks_are_left_out() -> None:
    found = instances(strip((0, 0), (0, 4), (4, 8)), [0.9, 0.5, 0.49], [0, 1, 2])
    _, segments = merge_panoptic(found, NOTHING, score_threshold=0.5)
    assert [s["category_id"] for s in segments] == [1]


def test_merge__stuff_limit_is_the_smallest_area_kept() -> None:
    semantic = torch.full((65, 64), 1)
    semantic[0] = 2
    semantic[64, 63] = 3  # classes 1, 2, 3: 64 * 64 - 1, 64, 1 px
    none = instances(torch.zeros((0, 65, 64), dtype=torch.bool), [], [])
    _, segments = merge_panoptic(none, semantic, stuff_area_limit=4096)
    assert segments == []
    semantic[64, 63] = 1
    panoptic, segments = merge_panoptic(none, semantic, stuff_area_limit=4096)
    assert segments == [{"id": 1, "isthing": False, "category_id": 1, "area": 4096}]
    assert panoptic[0].eq(0).all() and panoptic[1:].eq(1).all()


def test_merge__uncovered_thing_pixels_stay_void() -> None:
    semantic = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    panoptic, _ = merge_panoptic(instances(strip((0, 2)), [0.9], [0]), semantic, stuff_area_limit=1)
    assert panoptic.tolist() == [[1, 1, 0, 0, 2, 2, 2, 2]]


def literal(found: Instances, semantic: torch.Tensor, limit: int, threshold: float) -> torch.Tensor:
    """The rule, pixel by pixel."""
    height, width = semantic.shape
    out = [[0] * width for _ in range(height)]
    next_id = 1
    order = sorted(range(len(found)), key=lambda i: -float(found.scores[i]))
    for i in order:
        if float(found.scores[i]) < threshold:
            break
        pixels = [(y, x) for y in range(height) for x in range(width) if found.pred_masks[i, y, x]]
        taken = sum(out[y][x] > 0 for y, x in pixels)
        if not pixels or taken / len(pixels) > 0.5:
            continue
        for y, x in pixels:
            out[y][x] = out[y][x] or next_id
        next_id += 1
    for label in range(1, int(semantic.max()) + 1):
        pixels = [
            (y, x)
            for y in range(height)
            for x in range(width)
            if int(semantic[y, x]) == label and out[y][x] == 0
        ]
        if pixels and len(pixels) >= limit:
            for y, x in pixels:
                out[y][x] = next_id
            next_id += 1
    return torch.tensor(out, dtype=torch.int32)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 6))
def test_merge__equals_the_literal_rule(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand((count, 5, 7), generator=generator) < 0.4
    scores = torch.randint(0, 11, (count,), generator=generator) / 10
    found = instances(masks, scores.tolist(), [0] * count)
    semantic = torch.randint(0, 4, (5, 7), generator=generator)
    panoptic, segments = merge_panoptic(found, semantic, stuff_area_limit=4)
    assert torch.equal(panoptic, literal(found, semantic, 4, 0.5))
    assert {s["id"] for s in segments} == set(panoptic.unique().tolist()) - {0}
