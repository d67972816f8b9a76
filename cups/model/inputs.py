"""Between this project's structures and detectron2's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from cups.structures import PseudoClasses, Sample, boxes_from_masks

MIN_SIDE = 2
"""Objects with a box side below it (pixels) are not shown to the detector: no anchor can match them."""


def to_detectron2(sample: Sample) -> dict[str, Any]:
    """Return the network's training input for one sample.

    Keys: `image` (3, H, W), `sem_seg` (H, W) int64, `height`, `width`, `file_name`, and `instances` with
    `gt_boxes` (XYXY pixels, far side exclusive), `gt_classes` (thing index) and `gt_masks`. Objects whose box
    has a side below `MIN_SIDE` pixels are dropped (their pixels keep their semantic label).
    """
    height, width = sample.size
    boxes = boxes_from_masks(sample.masks)
    # Indices, not a mask of bool: a GPU waits for the number of kept ones once, not for each selection.
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE).all(dim=1).nonzero().flatten()
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(boxes[keep])
    instances.gt_classes = sample.classes[keep].long()
    instances.gt_masks = BitMasks(sample.masks[keep])
    return {
        "image": sample.image,
        "sem_seg": sample.sem_seg.long(),
        "instances": instances,
        "height": height,
        "width": width,
        "file_name": sample.name,
    }


def inference_inputs(images: Iterable[Tensor]) -> list[dict[str, Any]]:
    """Return the network's input for images (3, H, W); predictions have the size of their image."""
    return [{"image": image, "height": image.shape[-2], "width": image.shape[-1]} for image in images]


def panoptic_from_output(output: dict[str, Any], pseudo: PseudoClasses) -> Tensor:
    """Return the (H, W, 2) int64 panoptic tensor of one network output.

    Args:
        output: an element of the network's inference result, with `panoptic_seg` = (map, segments).
        pseudo: the network's pseudo-classes.

    Returns:
        (category, instance) per pixel: 0..S-1 stuff with instance 0, S..S+T-1 things with instances 1..n,
        void (`pseudo.void`, 0).
    """
    ids, segments = output["panoptic_seg"]
    table = torch.zeros((len(segments) + 1, 2), dtype=torch.int64)
    table[0, 0] = pseudo.void
    things = 0
    for segment in segments:
        category = int(segment["category_id"])
        if segment["isthing"]:
            things += 1
            table[segment["id"]] = torch.tensor((pseudo.stuffs + category, things))
        else:
            table[segment["id"]] = torch.tensor((category - 1, 0))
    return table.to(ids.device)[ids.long()]
