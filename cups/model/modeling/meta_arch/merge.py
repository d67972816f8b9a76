"""Merge of instances and semantics into one panoptic map (Kirillov et al., CVPR 2019, section 3)."""

from __future__ import annotations

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


def decide_semantic(probabilities: Tensor, things_first: bool = False) -> Tensor:
    """Decide each pixel's channel: (S+1, H, W) probabilities -> (H, W) int64, 0 "some thing", 1..S stuff.

    The most probable channel is biased where stuff has many pseudo-classes: they divide the probability of
    stuff among them, all things share one channel. `things_first` decides between things and stuff by their
    whole probabilities, and then between the kinds of stuff.
    """
    if not things_first:
        return probabilities.argmax(dim=0)
    stuff = probabilities[1:]
    return torch.where(probabilities[0] > stuff.sum(dim=0), 0, stuff.argmax(dim=0) + 1)


def merge_panoptic(
    instances: Instances,
    semantic: Tensor,
    *,
    overlap_threshold: float = 0.5,
    stuff_area_limit: float = 4096,
    score_threshold: float = 0.5,
) -> tuple[Tensor, Segments]:
    """Paint instances by falling score, then stuff where nothing is painted.

    Args:
        instances: `scores` (N,), `pred_classes` (N,) thing index, `pred_masks` (N, H, W) bool.
        semantic: (H, W) int64; 0 is "some thing" (left void), 1..S stuff.
        overlap_threshold: an instance with a larger part of it already painted is left out.
        stuff_area_limit: stuff classes with fewer free pixels are left void.
        score_threshold: instances below it are left out.

    Returns:
        (H, W) int32 segment ids, 0 void, and one dict per segment: `id`, `isthing`, `category_id` (thing
        index, or 1..S), and `score`, `instance_id` of things or `area` (pixels) of stuff.
    """
    masks = instances.pred_masks.to(device=semantic.device, dtype=torch.bool)
    # Only the pixels of a mask's own box are touched: 100 masks of a large image cost one pass, not 100.
    boxes = boxes_from_masks(masks).int().tolist()

    def crop_of(index: int) -> Crop:
        left, top, right, bottom = boxes[index]
        return Crop(top, left, masks[index, top:bottom, left:right])

    return merge_crops(
        instances.scores.tolist(),
        instances.pred_classes.tolist(),
        crop_of,
        semantic,
        overlap_threshold=overlap_threshold,
        stuff_area_limit=stuff_area_limit,
        score_threshold=score_threshold,
    )


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
