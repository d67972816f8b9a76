"""Merge of instances and semantics into one panoptic map (Kirillov et al., CVPR 2019, section 3)."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor

from cups.structures import boxes_from_masks

Segments = list[dict[str, Any]]


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
    panoptic, segments = _paint_instances(instances, semantic, overlap_threshold, score_threshold)
    free = torch.where(panoptic == 0, semantic, 0)
    areas = torch.bincount(free.flatten())
    new_ids = torch.zeros_like(areas, dtype=torch.int32)
    for category, area in enumerate(areas.tolist()):
        if category == 0 or area == 0 or area < stuff_area_limit:
            continue
        new_ids[category] = len(segments) + 1
        segments.append({"id": len(segments) + 1, "isthing": False, "category_id": category, "area": area})
    return panoptic + new_ids[free], segments


def _paint_instances(
    instances: Instances, semantic: Tensor, overlap_threshold: float, score_threshold: float
) -> tuple[Tensor, Segments]:
    panoptic = torch.zeros_like(semantic, dtype=torch.int32)
    segments: Segments = []
    masks = instances.pred_masks.to(device=semantic.device, dtype=torch.bool)
    areas = masks.flatten(1).sum(1).tolist()
    # Only the pixels of a mask's own box are touched: 100 masks of a large image cost one pass, not 100.
    boxes = boxes_from_masks(masks).int().tolist()
    scores, classes = instances.scores.tolist(), instances.pred_classes.tolist()
    for index in instances.scores.argsort(descending=True, stable=True).tolist():
        if scores[index] < score_threshold:
            break
        if areas[index] == 0:
            continue
        left, top, right, bottom = boxes[index]
        window = panoptic[top:bottom, left:right]
        mask = masks[index, top:bottom, left:right]
        free = mask & (window == 0)
        if areas[index] - int(free.sum()) > overlap_threshold * areas[index]:
            continue
        window[free] = len(segments) + 1
        segments.append(
            {
                "id": len(segments) + 1,
                "isthing": True,
                "score": scores[index],
                "category_id": classes[index],
                "instance_id": index,
            }
        )
    return panoptic, segments
