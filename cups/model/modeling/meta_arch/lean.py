"""Panoptic maps of the network's own outputs, without float maps or masks of the image's size.

At 1024 x 2048 the semantic output of 28 channels is 235 MB, its probabilities as much again, and 100 masks
are 200 MB. Here the semantic output is enlarged and decided in bands of rows, and a mask is enlarged in its
own box when it is painted. Both give the same bits as the whole maps do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling.backbone import FPN
from detectron2.structures import Instances
from torch import Tensor

from cups.model.modeling.meta_arch.merge import Crop, best_channel
from cups.ops.precision import full_precision

BAND_ELEMENTS = 2**22
"""Enlarged logits held at a time (16 MB)."""
VECTOR_PIXELS = 64
LEAST_WIDTH = 512
"""Of images that are cut into bands: torch enlarges small maps by another kernel, which rounds otherwise."""
MASK_THRESHOLD = 0.5


def pyramid(backbone: Any, images: Tensor) -> dict[str, Tensor]:
    """Return the feature maps of a backbone; those inside it are let go as soon as nothing needs them.

    detectron2's FPN keeps the trunk's maps, and the last level's in four steps, to its end: at 1024 x 2048
    that is 134 MB each. Other backbones are called as they are.
    """
    if type(backbone) is not FPN:
        found: dict[str, Tensor] = backbone(images)
        return found
    below = backbone.bottom_up(images)
    block, names = backbone.top_block, backbone._out_features
    kept = below.get(block.in_feature) if block is not None else None
    level: Tensor | None = None
    results: list[Tensor] = []
    for name, lateral, output in zip(
        reversed(backbone.in_features), backbone.lateral_convs, backbone.output_convs, strict=True
    ):
        above, level = level, lateral(below.pop(name))
        if above is not None:
            level += F.interpolate(above, scale_factor=2.0, mode="nearest")
            if backbone._fuse_type == "avg":
                level /= 2
        del above
        results.insert(0, output(level))
    if block is not None:
        results.extend(block(results[names.index(block.in_feature)] if kept is None else kept))
    return dict(zip(names, results, strict=True))


def rows_within(limit: int, elements: int, pixels: int) -> int:
    """Return of how many rows a band is that holds `limit` elements, if it can.

    It fills whole vectors of a processor: what is left over is computed otherwise, in the last bit.

    Args:
        elements, pixels: of a row.
    """
    unit = VECTOR_PIXELS // math.gcd(VECTOR_PIXELS, pixels)
    return max(1, limit // (elements * unit)) * unit


def bands(logits: Tensor, stride: int, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows of some bands, and the enlarged logits (C, rows, W) there.

    One more row of logits on each side of a band makes it the same as in the whole.

    Args:
        logits: (C, h, w), of which the padding on the right and below is cut.
        stride: how many times they are enlarged.
        size: (H, W) of the image, at most (h * stride, w * stride).
    """
    channels, height, width = logits.shape
    step = rows_within(BAND_ELEMENTS, channels * width * stride * stride, stride * size[1])
    if size[1] < LEAST_WIDTH:
        step = height
    for first in range(0, -(-size[0] // stride), step):
        above, last = min(first, 1), min(first + step, height)
        rows = slice(first * stride, min(last * stride, size[0]))
        part = logits[:, first - above : min(last + 1, height)]
        wide = F.interpolate(part[None], scale_factor=stride, mode="bilinear", align_corners=False)[0]
        yield rows, wide[:, above * stride : above * stride + rows.stop - rows.start, : size[1]]


def decide_in_bands(
    logits: Tensor, stride: int, size: tuple[int, int], decide: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the channel with the largest logit, `decide` of the probabilities, and that of "some thing".

    The first two maps (H, W) are int64, the last one is float32.

    Args:
        logits, stride, size: see `bands`.
        decide: probabilities (C, rows, W) -> (rows, W) int64.
    """
    semantic = torch.empty(size, dtype=torch.int64, device=logits.device)
    decided = torch.empty_like(semantic)
    things = torch.empty(size, dtype=torch.float32, device=logits.device)
    for rows, wide in bands(logits, stride, size):
        semantic[rows] = best_channel(wide)
        probabilities = wide.float().softmax(dim=0)
        decided[rows], things[rows] = decide(probabilities), probabilities[0]
    return semantic, decided, things


def decide_in_regions(
    logits: Tensor,
    stride: int,
    size: tuple[int, int],
    regions: tuple[Tensor, int],
    decide: Callable[[Tensor], Tensor],
    finite_log: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `decide_in_bands` does, where each pixel takes the mean probabilities of its region.

    All pixels of a region decide alike, so it decides once.

    Args:
        logits, stride, size: see `bands`.
        regions: ids (H, W) int64 and their number.
        decide: probabilities (C, 1, N) of regions -> (1, N) int64.
        finite_log: logits whose softmax probabilities are.
    """
    ids, count = regions
    sums = torch.zeros((logits.shape[0], count), device=logits.device)
    for rows, wide in bands(logits, stride, size):
        # In the order of pixels, so that rounding is that of the whole map.
        sums.index_add_(1, ids[rows].flatten(), wide.float().softmax(dim=0).flatten(1))
    means = sums / torch.bincount(ids.flatten(), minlength=count).clamp(min=1)
    followed = finite_log(F.pad(means, (0, -count % VECTOR_PIXELS)))
    probabilities = followed.softmax(dim=0)
    decided = decide(probabilities[:, None])[0]
    return best_channel(followed)[ids], decided[ids], probabilities[0][ids]


def mask_crops(found: Instances, size: tuple[int, int]) -> tuple[Instances, Callable[[int], Crop]]:
    """Return the detections whose boxes are not empty, and a function that cuts out the mask of one.

    As detectron2's `detector_postprocess` and `paste_masks_in_image` at the size that the network saw.

    found: `pred_boxes` XYXY pixels, `pred_masks` (N, 1, M, M) in 0-1.
    """
    boxes = found.pred_boxes.clone()
    boxes.clip(size)
    kept = Instances(size, **found.get_fields())
    kept.pred_boxes = boxes
    kept = kept[boxes.nonempty()]
    corners, masks = kept.pred_boxes.tensor, kept.pred_masks
    sides = corners.tolist()

    def crop_of(index: int) -> Crop:
        left, top, right, bottom = sides[index]
        first = max(0, int(top // 1) - 1), max(0, int(left // 1) - 1)
        last = min(size[0], int(-(-bottom // 1)) + 1), min(size[1], int(-(-right // 1)) + 1)
        with full_precision(masks.device):
            return Crop(*first, _paste(masks[index], corners[index], first, last) >= MASK_THRESHOLD)

    return kept, crop_of


def _paste(mask: Tensor, box: Tensor, first: tuple[int, int], last: tuple[int, int]) -> Tensor:
    """Sample a mask (1, M, M) at the pixels between `first` and `last` (row, column)."""
    left, top, right, bottom = box
    rows, columns = (
        torch.arange(low, high, device=mask.device, dtype=torch.float32) + 0.5
        for low, high in zip(first, last, strict=True)
    )
    rows, columns = (rows - top) / (bottom - top) * 2 - 1, (columns - left) / (right - left) * 2 - 1
    grid = torch.stack(
        (columns.expand(len(rows), len(columns)), rows[:, None].expand(len(rows), len(columns))), dim=2
    )
    return F.grid_sample(mask[None].float(), grid[None], align_corners=False)[0, 0]
