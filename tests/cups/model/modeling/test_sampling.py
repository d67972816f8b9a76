"""Choices that a GPU makes without telling how many there are: the same as detectron2's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import ImageList, Instances
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import nms

from cups.model.inputs import batch_to_detectron2
from cups.model.modeling import rpn
from cups.model.modeling.roi_heads import cascade_rcnn
from cups.model.modeling.rpn import CustomRPN
from cups.model.modeling.sampling import sample, suppress, top_proposals
from cups.structures import Sample

COUNTS = st.integers(0, 40)


def boxes_of(groups: int, count: int, seed: int) -> Tensor:
    """Return crowded boxes (G, N, 4): chains of them decide each other."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand((groups, count, 2), generator=generator) * 30
    sides = 8 + torch.rand((groups, count, 2), generator=generator) * 12
    return torch.cat((centres - sides / 2, centres + sides / 2), dim=-1)


@given(
    st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=3),
    st.integers(1, 30),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.integers(0, 2**20),
)
def test_sample__counts_are_those_of_the_rule(
    images: list[tuple[int, int]], count: int, fraction: float, seed: int
) -> None:
    torch.manual_seed(seed)
    kinds = torch.full((len(images), 85), -1)
    for row, (positives, negatives) in zip(kinds, images, strict=True):
        row[:positives], row[positives : positives + negatives] = 1, 0
        row[:] = row[torch.randperm(len(row))]
    positive, negative = sample(kinds == 1, kinds == 0, count, fraction)
    assert not (positive & (kinds != 1)).any()
    assert not (negative & (kinds != 0)).any()
    for number, (positives, negatives) in enumerate(images):
        wanted = min(positives, int(count * fraction))
        assert int(positive[number].sum()) == wanted
        assert int(negative[number].sum()) == min(negatives, count - wanted)


def test_sample__all_are_as_likely() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([1] * 6 + [0] * 14).expand(3000, -1)
    positive, negative = sample(labels == 1, labels == 0, 8, 0.5)
    share = (positive | negative).float().mean(dim=0)
    assert torch.allclose(share[:6], torch.tensor(4 / 6), atol=0.04)
    assert torch.allclose(share[6:], torch.tensor(4 / 14), atol=0.04)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_suppress__keeps_what_greedy_suppression_keeps(threshold: float) -> None:
    levels = [boxes_of(3, count, seed=count) for count in (60, 1, 25)]
    valid = [torch.ones(level.shape[:2], dtype=torch.bool) for level in levels]
    valid[0][:, ::7] = False
    kept = suppress(list(zip(levels, valid, strict=True)), threshold)
    assert 0 < int(kept[0].sum()) < int(valid[0].sum())
    for level, sound, found in zip(levels, valid, kept, strict=True):
        for boxes, part, mask in zip(level, sound, found, strict=True):
            expected = part.nonzero().flatten()[
                nms(boxes[part], -torch.arange(int(part.sum())).float(), threshold)
            ]
            assert mask.nonzero().flatten().tolist() == sorted(expected.tolist())


def test_suppress__a_long_chain_is_followed_to_its_end() -> None:
    """Each box overlaps the next alone, so every second one stays: as many steps as boxes."""
    left = torch.arange(50.0) * 4
    chain = torch.stack((left, torch.zeros(50), left + 10, torch.full((50,), 10.0)), dim=1)[None]
    ((kept,),) = suppress([(chain, torch.ones((1, 50), dtype=torch.bool))], 0.4)
    assert kept.tolist() == [number % 2 == 0 for number in range(50)]


def proposal_levels(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return boxes and falling logits of two images on two levels; some leave the image or are small."""
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for number, count in enumerate((50, 20)):
        boxes = boxes_of(2, count, seed + number)
        boxes[:, 3] = torch.tensor([5.0, 5, 5.5, 9])
        logits = torch.randn((2, count), generator=generator).sort(dim=1, descending=True).values
        levels.append((boxes, logits))
    return levels


def by_detectron2(levels: list[tuple[Tensor, Tensor]], training: bool) -> list[Instances]:
    boxes, logits = (list(part) for part in zip(*levels, strict=True))
    found: list[Instances] = find_top_rpn_proposals(boxes, logits, SIZES, 0.6, 1000, 30, 1.0, training)
    return found


SIZES = [(24, 30), (28, 26)]


def ours(levels: list[tuple[Tensor, Tensor]], training: bool) -> list[Instances]:
    return top_proposals(levels, SIZES, iou=0.6, count=30, min_side=1.0, training=training)


@pytest.mark.parametrize("training", [True, False])
def test_top_proposals__equal_detectron2(training: bool) -> None:
    levels = proposal_levels(0)
    if not training:
        levels[0][0][0, 2] = torch.nan  # a network that diverged may still be looked at
        levels[1][1][1, 0] = torch.inf
    for found, expected in zip(ours(levels, training), by_detectron2(levels, training), strict=True):
        assert 10 < len(found) < 70
        assert torch.equal(found.proposal_boxes.tensor, expected.proposal_boxes.tensor)
        assert torch.equal(found.objectness_logits, expected.objectness_logits)
        assert found.image_size == expected.image_size


def test_top_proposals__training_refuses_what_is_not_finite() -> None:
    levels = proposal_levels(0)
    levels[1][0][1, 3, 2] = torch.nan
    with pytest.raises(FloatingPointError, match="training has diverged"):
        ours(levels, training=True)


def test_top_proposals__none_where_nothing_is_sound() -> None:
    levels = [(torch.zeros((2, 5, 4)), torch.zeros((2, 5)))]
    assert [len(item) for item in ours(levels, training=False)] == [0, 0]


@pytest.mark.parametrize("training", [True, False])
def test_rpn__all_images_at_once_gives_the_proposals_of_one_after_another(
    build_tiny: Callable[..., nn.Module], training: bool
) -> None:
    generator: CustomRPN = build_tiny().train(training).proposal_generator
    assert isinstance(generator.box2box_transform, Box2BoxTransform)
    random = torch.Generator().manual_seed(0)
    shapes = [(16 >> level, 24 >> level) for level in range(len(generator.in_features))]
    channels = generator.rpn_head.conv.in_channels
    maps = [torch.randn((2, channels, *shape), generator=random) for shape in shapes]
    anchors = generator.anchor_generator(maps)
    logits = [torch.randn((2, len(level)), generator=random) for level in anchors]
    deltas = [torch.randn((2, len(level), 4), generator=random) * 0.2 for level in anchors]
    sizes = ImageList(torch.zeros((2, 3, 64, 96)), [(64, 96), (60, 90)]).image_sizes
    together = generator._predict_together(anchors, logits, deltas, sizes)
    for found, expected in zip(
        together, generator.predict_proposals(anchors, logits, deltas, sizes), strict=True
    ):
        assert len(found) > 3
        assert torch.allclose(found.proposal_boxes.tensor, expected.proposal_boxes.tensor, atol=1e-4)
        assert torch.equal(found.objectness_logits, expected.objectness_logits)


def test_training_and_inference__choices_for_all_images_at_once_change_little(
    build_tiny: Callable[..., nn.Module],
    build_sample: Callable[..., Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The way of a GPU, on a CPU: other random draws, so other samples, but the same network learns."""
    samples = [
        build_sample([(4, 6, 40, 40), (50, 20, 90, 60)]),
        build_sample([]),
        build_sample([(8, 8, 30, 30)]),
    ]
    model = build_tiny(use_drop_loss=True)
    inputs = batch_to_detectron2(samples)
    torch.manual_seed(0)
    expected = model(inputs)
    found = model.eval()(inputs)
    for module in (rpn, cascade_rcnn):
        monkeypatch.setattr(module, "draws_together", lambda tensor: True)
    together = model(inputs)
    losses = model.train()(inputs)
    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        assert float(value.detach()) == pytest.approx(float(expected[name].detach()), rel=0.2, abs=0.05), name
    sum(losses.values()).backward()
    for one, other in zip(found, together, strict=True):
        assert torch.equal(one["panoptic_seg"][0], other["panoptic_seg"][0])
        assert len(one["instances"]) == len(other["instances"])
