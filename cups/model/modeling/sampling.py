"""Choices among anchors and proposals that a GPU makes without telling the processor how many there are.

detectron2 asks a GPU in each image for numbers and indices: with 16 images a training step stood still 390
times, and the GPU computed in three fifths of it. On a CPU its own functions are as good, and stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, Instances
from torch import Tensor

ROUNDS = 4
"""Steps of suppression between two questions whether anything still changes."""


def draws_together(tensor: Tensor) -> bool:
    """Tell whether choices are made for all images at once: on a GPU. Elsewhere detectron2's are as fast."""
    return tensor.device.type == "cuda"


def threshold_labels(quality: Tensor, matcher: Matcher) -> Tensor:
    """Return a matcher's label of each match by its quality: int8, 1, 0 or -1 (left out)."""
    labels = torch.ones_like(quality, dtype=torch.int8)
    for label, low, high in zip(matcher.labels, matcher.thresholds[:-1], matcher.thresholds[1:], strict=True):
        labels[(quality >= low) & (quality < high)] = label
    return labels


def sample(positive: Tensor, negative: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Draw `count` candidates of each image at random, positive ones first.

    The rule is that of detectron2's `subsample_labels` (Ren et al., "Faster R-CNN", section 3.1.3); it draws
    other random numbers.

    Args:
        positive, negative: (B, A) bool.
        count: candidates drawn in each image, or fewer where there are too few.
        positive_fraction: at most so many of them are positive, 0-1.

    Returns:
        (B, A) bool, the positive and the negative ones that were drawn.
    """
    draws = torch.rand(positive.shape, device=positive.device)
    drawn = _largest(draws, positive, int(count * positive_fraction))
    return drawn, _largest(draws, negative, count, at_most=count - drawn.sum(dim=1, keepdim=True))


def _largest(values: Tensor, allowed: Tensor, count: int, at_most: Tensor | None = None) -> Tensor:
    """Mark in each row the `count` largest allowed values (not negative), or the first `at_most` of those."""
    top, indices = torch.where(allowed, values, -1).topk(min(count, values.shape[1]), dim=1)
    chosen = top >= 0
    if at_most is not None:
        chosen &= torch.arange(top.shape[1], device=top.device) < at_most
    return torch.zeros_like(allowed).scatter_(1, indices, chosen)


def pairwise_ious(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU (B, M, R) of boxes (B, M, 4) and (B, R, 4), XYXY; 0 where they do not touch."""
    left, top, right, bottom = (side[:, :, None] for side in first.unbind(dim=-1))
    from_left, from_top, to_right, to_bottom = (side[:, None] for side in second.unbind(dim=-1))
    width = torch.minimum(right, to_right).sub_(torch.maximum(left, from_left))
    height = torch.minimum(bottom, to_bottom).sub_(torch.maximum(top, from_top))
    common = width.clamp_(min=0).mul_(height.clamp_(min=0))
    areas = (right - left) * (bottom - top) + (to_right - from_left) * (to_bottom - from_top)
    return torch.where(common > 0, common / areas.sub_(common), 0)


def image_ends(sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return the largest coordinates of boxes in images of given heights and widths: (B, 4), on the CPU."""
    return torch.tensor([(width, height, width, height) for height, width in sizes])


def suppress(levels: Sequence[tuple[Tensor, Tensor]], threshold: float) -> list[Tensor]:
    """Return which boxes greedy non-maximum suppression keeps, in many groups at once.

    A box is kept if no kept box before it overlaps it. That rule, applied to all boxes again and again, has
    settled the first n boxes after n times, and all of them as soon as nothing changes: then it is the greedy
    result. Chains of boxes that decide each other are short, so few times are enough.

    Args:
        levels: for each, boxes (G, N, 4) XYXY, in each group by falling score, and (G, N) bool, those that
            take part.
        threshold: IoU above which the later box goes, 0-1.

    Returns:
        For each level (G, N) bool.
    """
    # Whether a box overlaps a later one by more than the threshold, (G, N, N).
    before = [(pairwise_ious(boxes, boxes) > threshold).triu_(diagonal=1) for boxes, _ in levels]
    kept = [valid for _, valid in levels]
    while True:
        last = kept
        for _ in range(ROUNDS):
            last = kept
            kept = [
                valid & ~(now[:, :, None] & over).any(dim=1)
                for now, over, (_, valid) in zip(kept, before, levels, strict=True)
            ]
        changed = [(now != then).any() for now, then in zip(kept, last, strict=True)]
        if not torch.stack(changed).any():
            return kept


def top_proposals(
    levels: Sequence[tuple[Tensor, Tensor]],
    sizes: Sequence[tuple[int, int]],
    *,
    iou: float,
    count: int,
    min_side: float,
    training: bool,
) -> list[Instances]:
    """Return the best proposals of each image, as detectron2's `find_top_rpn_proposals` does.

    Boxes are compared as they are; detectron2 first moves those of each level by an offset, which rounds.

    Args:
        levels: for each, boxes (B, N, 4) XYXY and their logits (B, N), falling.
        sizes: height and width of each image; boxes end there.
        iou: overlap above which the lesser box of a level goes.
        count: most proposals of an image.
        min_side: a box needs longer sides, pixels.
        training: refuse what is not finite instead of leaving it out.

    Raises:
        FloatingPointError: in training, when a box or logit is not finite.
    """
    ends = image_ends(sizes).to(levels[0][0], non_blocking=True)[:, None]
    boxes = [torch.minimum(boxes.clamp(min=0), ends) for boxes, _ in levels]
    finite = [boxes.isfinite().all(dim=-1) & logits.isfinite() for boxes, logits in levels]
    large = [((level[..., 2:] - level[..., :2]) > min_side).all(dim=-1) for level in boxes]
    valid = [sound & enough for sound, enough in zip(finite, large, strict=True)]
    kept = torch.cat(suppress(list(zip(boxes, valid, strict=True)), iou), dim=1)
    logits = torch.cat([part for _, part in levels], dim=1)
    best, order = torch.where(kept, logits, -torch.inf).topk(min(count, kept.shape[1]), dim=1)
    chosen = torch.cat(boxes, dim=1).gather(1, order[..., None].expand(-1, -1, 4))
    # The only question besides those of the suppression: how many each image has, and whether all is sound.
    all_finite = torch.cat(finite, dim=1).all().long()
    *lengths, sound = torch.cat((best.isfinite().sum(dim=1), all_finite[None])).tolist()
    if training and not sound:
        raise FloatingPointError("boxes or scores of proposals are not finite: training has diverged")
    return [
        Instances(size, proposal_boxes=Boxes(found[:length]), objectness_logits=scores[:length])
        for size, found, scores, length in zip(sizes, chosen, best, lengths, strict=True)
    ]
