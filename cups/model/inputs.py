"""Between this project's structures and detectron2's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from cups.model.modeling.meta_arch.merge import best_channel
from cups.ops.panoptic_map import PanopticMap
from cups.structures import PseudoClasses, Sample, boxes_from_masks

MIN_SIDE = 2
"""Objects with a box side below it (pixels) are not shown to the detector: no anchor can match them."""


def decided_maps(output: dict[str, Any]) -> dict[str, Any]:
    """Return what an evaluation reads of one output: `semantic`, the largest channel, and `panoptic_seg`."""
    return {"semantic": best_channel(output["sem_seg"]), "panoptic_seg": output["panoptic_seg"]}


def to_detectron2(sample: Sample) -> dict[str, Any]:
    """Return the network's training input for one sample, see `batch_to_detectron2`."""
    return batch_to_detectron2([sample])[0]


def batch_to_detectron2(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return the network's training input for samples; a GPU is asked once for the objects of all of them.

    Keys: `image` (3, H, W), `sem_seg` (H, W) int64, `height`, `width`, `file_name`, and `instances` with
    `gt_boxes` (XYXY pixels, far side exclusive), `gt_classes` (thing index) and `gt_masks`. Objects whose box
    has a side below `MIN_SIDE` pixels are dropped (their pixels keep their semantic label).
    """
    boxes = [boxes_from_masks(sample.masks) for sample in samples]
    large = [((item[:, 2:] - item[:, :2]) >= MIN_SIDE).all(dim=1) for item in boxes]
    kept = torch.cat(large).cpu().split([len(item) for item in large])
    return [_training_input(*parts) for parts in zip(samples, boxes, kept, strict=True)]


def _training_input(sample: Sample, boxes: Tensor, kept: Tensor) -> dict[str, Any]:
    height, width = sample.size
    # Indices that come from the CPU: a mask of bool on a GPU is asked at each selection how many it has.
    keep = kept.nonzero().flatten().to(boxes.device, non_blocking=True)
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


def panoptic_map_from_output(output: dict[str, Any], pseudo: PseudoClasses) -> PanopticMap:
    """Return the panoptic map of one network output, on the CPU.

    Args:
        output: an element of the network's inference result, with `panoptic_seg` = (map, segments).
        pseudo: the network's pseudo-classes.

    Returns:
        categories 0..S-1 of stuff with instance 0, S..S+T-1 of things with instances 1..n, void
        (`pseudo.void`, 0).
    """
    ids, segments = output["panoptic_seg"]
    category, instance = np.full(len(segments) + 1, pseudo.void), np.zeros(len(segments) + 1, dtype=np.int64)
    things = 0
    for segment in segments:
        kind = int(segment["category_id"])
        things += segment["isthing"]
        category[segment["id"]] = pseudo.stuffs + kind if segment["isthing"] else kind - 1
        instance[segment["id"]] = things if segment["isthing"] else 0
    # A GPU hands over a byte a pixel, not four.
    numbers = ids.to(torch.uint8) if len(segments) < 256 else ids
    return PanopticMap.from_numbers(numbers.cpu().numpy(), category, instance)


def panoptic_from_output(output: dict[str, Any], pseudo: PseudoClasses) -> Tensor:
    """Return `panoptic_map_from_output` as (H, W, 2) int64 (category, instance)."""
    return torch.from_numpy(panoptic_map_from_output(output, pseudo).pairs)
