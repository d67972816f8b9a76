"""Merge of instances and semantics into one panoptic map (Kirillov et al., CVPR 2019, section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.structures import Instances
from torch import Tensor

from cups.structures import boxes_from_masks

Segments = list[dict[str, Any]]


class Crop(NamedTuple):
    """A mask (h, w) bool whose first pixel stands at row `top` and column `left` of its image."""

    top: int
    left: int
    mask: Tensor


def best_channel(values: Tensor) -> Tensor:
    """Return the first channel with the largest value of each pixel: (C, ...) -> (...) int64."""
    return values.max(dim=0).indices  # what `argmax` returns, on a CPU in half the time


def decide_semantic(probabilities: Tensor, things_first: bool = False) -> Tensor:
    """Decide each pixel's channel: (S+1, H, W) probabilities -> (H, W) int64, 0 "some thing", 1..S stuff.

    The most probable channel is biased where stuff has many pseudo-classes: they divide the probability of
    stuff among them, all things share one channel. `things_first` decides between things and stuff by their
    whole probabilities, and then between the kinds of stuff.
    """
    if not things_first:
        return best_channel(probabilities)
    stuff = probabilities[1:]
    return torch.where(probabilities[0] > stuff.sum(dim=0), 0, best_channel(stuff) + 1)


def merge_panoptic(
    instances: Instances,
    semantic: Tensor,
    *,
    overlap_threshold: float = 0.5,
    stuff_area_limit: float = 4096,
    score_threshold: float = 0.5,
    thing_probability: Tensor | None = None,
    semantic_weight: float = 0.0,
) -> tuple[Tensor, Segments]:
    """Paint instances by falling score, then stuff where nothing is painted.

    Args:
        instances: `scores` (N,), `pred_classes` (N,) thing index, `pred_masks` (N, H, W) bool.
        semantic: (H, W) int64; 0 is "some thing" (left void), 1..S stuff.
        overlap_threshold: an instance with a larger part of it already painted is left out.
        stuff_area_limit: stuff classes with fewer free pixels are left void.
        score_threshold: instances below it are left out.
        thing_probability, semantic_weight: (H, W) of "some thing", see `agreed_scores`.

    Returns:
        (H, W) int32 segment ids, 0 void, and one dict per segment: `id`, `isthing`, `category_id` (thing
        index, or 1..S), and `score`, `instance_id` of things or `area` (pixels) of stuff.
    """
    crop_of = crops_of(instances.pred_masks.to(device=semantic.device, dtype=torch.bool))
    scores = instances.scores.tolist()
    if thing_probability is not None:
        scores = agreed_scores(scores, crop_of, thing_probability, semantic_weight)
    return merge_crops(
        scores,
        instances.pred_classes.tolist(),
        crop_of,
        semantic,
        overlap_threshold=overlap_threshold,
        stuff_area_limit=stuff_area_limit,
        score_threshold=score_threshold,
    )


def crops_of(masks: Tensor) -> Callable[[int], Crop]:
    """Return what cuts each of (N, H, W) bool masks out: only the pixels of its own box are touched."""
    boxes = boxes_from_masks(masks).int().tolist()

    def crop_of(index: int) -> Crop:
        left, top, right, bottom = boxes[index]
        return Crop(top, left, masks[index, top:bottom, left:right])

    return crop_of


def agreed_scores(
    scores: Sequence[float], crop_of: Callable[[int], Crop], thing_probability: Tensor, weight: float
) -> list[float]:
    """Return the scores of instances as both heads see them: box^(1 - weight) * semantic^weight.

    Of the semantic head, the score is the mean probability of "some thing" in the mask. Panoptic-DeepLab
    (Cheng et al., CVPR 2020, section 3.3) multiplies both; the powers keep a score where both are equal.

    Args:
        scores: 0-1, of the box head.
        crop_of: returns the mask of an instance; one without pixels keeps its score.
        thing_probability: (H, W) float 0-1.
        weight: 0 (the box head alone) to 1.
    """
    if weight == 0 or not scores:
        return list(scores)
    means = []
    for index in range(len(scores)):
        top, left, mask = crop_of(index)
        window = thing_probability[top : top + mask.shape[0], left : left + mask.shape[1]]
        means.append((window * mask).sum() / mask.sum())
    semantic = torch.stack(means).tolist()  # one wait for a GPU, not one for each instance
    return [
        box if math.isnan(mean) else box ** (1 - weight) * mean**weight
        for box, mean in zip(scores, semantic, strict=True)
    ]


def merge_crops(
    scores: Sequence[float],
    classes: Sequence[int],
    crop_of: Callable[[int], Crop],
    semantic: Tensor,
    *,
    overlap_threshold: float,
    stuff_area_limit: float,
    score_threshold: float,
) -> tuple[Tensor, Segments]:
    """Merge as `merge_panoptic` does, from masks that are made one at a time, each in its own box.

    Args:
        scores, classes: of each instance.
        crop_of: returns the mask of an instance; it lies inside the image.
        semantic: (H, W) integers.
    """
    panoptic = torch.zeros(semantic.shape, dtype=torch.int32, device=semantic.device)
    segments: Segments = []
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if scores[index] < score_threshold:
            break
        if _paint(panoptic, crop_of(index), len(segments) + 1, overlap_threshold):
            about = {"score": scores[index], "category_id": classes[index], "instance_id": index}
            segments.append({"id": len(segments) + 1, "isthing": True, **about})
    _fill_stuff(panoptic, semantic, segments, stuff_area_limit)
    return panoptic, segments


def _paint(panoptic: Tensor, crop: Crop, number: int, overlap_threshold: float) -> bool:
    """Paint a mask where nothing is painted; return whether enough of it was free."""
    window = panoptic[crop.top : crop.top + crop.mask.shape[0], crop.left : crop.left + crop.mask.shape[1]]
    free = crop.mask & (window == 0)
    area, unpainted = torch.stack((crop.mask.sum(), free.sum())).tolist()  # one wait for a GPU, not two
    if area == 0 or area - unpainted > overlap_threshold * area:
        return False
    window[free] = number
    return True


def _fill_stuff(panoptic: Tensor, semantic: Tensor, segments: Segments, area_limit: float) -> None:
    """Give what is free to the stuff classes that have enough of it, in place."""
    free = torch.where(panoptic == 0, semantic, 0)
    areas = torch.bincount(free.flatten())
    new_ids = torch.zeros_like(areas, dtype=torch.int32)
    for category, area in enumerate(areas.tolist()):
        if category == 0 or area == 0 or area < area_limit:
            continue
        new_ids[category] = len(segments) + 1
        segments.append({"id": len(segments) + 1, "isthing": False, "category_id": category, "area": area})
    panoptic += new_ids[free.long()]
