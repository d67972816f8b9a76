"""Which object each region learns, for all images of a batch at once.

detectron2 goes image by image, with some sixty small operations and a dozen waits for a GPU in each. Here the
images are padded to the same number of regions and objects. Matches and labels are detectron2's, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cups.model.modeling.sampling import image_ends, pairwise_ious, sample, threshold_labels


@dataclass(frozen=True)
class Truth:
    """The objects of a batch, padded to those of the fullest image, at least one.

    Attributes:
        boxes: (B, M, 4) XYXY pixels, 0 where there is none.
        classes: (B, M) int64.
        exists: (B, M) bool.
    """

    boxes: Tensor
    classes: Tensor
    exists: Tensor

    @classmethod
    def of(cls, targets: Sequence[Instances]) -> Truth:
        """Pad the targets, with `gt_boxes` and `gt_classes`, of each image."""
        boxes = [item.gt_boxes.tensor for item in targets]
        counts = torch.tensor([len(item) for item in boxes])
        exists = torch.arange(max(1, int(counts.max()))) < counts[:, None]
        nothing = boxes[0].new_zeros((1, 4))
        classes = [item.gt_classes for item in targets]
        return cls(
            pad_sequence([item if len(item) else nothing for item in boxes], batch_first=True),
            pad_sequence([item if len(item) else item.new_zeros(1) for item in classes], batch_first=True),
            exists.to(nothing.device, non_blocking=True),
        )


def assign(boxes: Tensor, truth: Truth, matcher: Matcher, background: int) -> tuple[Tensor, Tensor]:
    """Match regions with objects.

    Args:
        boxes: (B, R, 4) XYXY pixels.
        truth: objects of the same images.
        matcher: its thresholds and labels hold; it allows no matches of low quality.
        background: class of regions that match none.

    Returns:
        (B, R) int64, the best object of each region, and (B, R) int64, its class; -1 where it is left out.
    """
    ious = pairwise_ious(truth.boxes, boxes).masked_fill(~truth.exists[..., None], -1)
    quality, best = ious.max(dim=1)
    labels = threshold_labels(quality, matcher)
    classes = truth.classes.gather(1, best)
    return best, torch.where(labels == 1, classes, torch.where(labels == 0, background, -1))


def sampled_regions(
    classes: Tensor,
    lengths: Sequence[int],
    count: int,
    positive_fraction: float,
    background: int,
    *,
    together: bool,
) -> list[Tensor]:
    """Return the indices of the regions that each image learns from, on the device of the classes.

    Args:
        classes: (B, R) int64 of `assign`.
        lengths: regions of each image; those behind are padding.
        count, positive_fraction: regions drawn in each image, and the largest share of objects among them.
        background: class of regions that match no object.
        together: draw for all images at once, for which a GPU is asked once; else detectron2's draws.
    """
    rows = [row[:length] for row, length in zip(classes, lengths, strict=True)]
    if not together:
        return [torch.cat(subsample_labels(row, count, positive_fraction, background)) for row in rows]
    padded = pad_sequence(rows, batch_first=True, padding_value=-1)
    positive, negative = sample(
        (padded != -1) & (padded != background), padded == background, count, positive_fraction
    )
    chosen = (positive | negative).cpu()
    return [row.nonzero().flatten().to(classes.device, non_blocking=True) for row in chosen]


def clip_regions(boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Instances]:
    """Return as `proposal_boxes` the boxes (R_i, 4) of each image, cut at its sides; empty ones are gone.

    Raises:
        FloatingPointError: when a box is not a number.
    """
    lengths = [len(item) for item in boxes]
    ends = image_ends(sizes).repeat_interleave(torch.tensor(lengths), dim=0)
    flat = torch.cat(list(boxes)).detach()
    flat = torch.minimum(flat.clamp(min=0), ends.to(flat, non_blocking=True))
    keep = (flat[:, 2] > flat[:, 0]) & (flat[:, 3] > flat[:, 1])
    answer = torch.cat((keep, ~flat.isnan().any()[None])).cpu()
    if not answer[-1]:
        raise FloatingPointError("boxes of regions are not finite: training has diverged")
    found = [
        Instances(size, proposal_boxes=Boxes(part))
        for size, part in zip(sizes, flat.split(lengths), strict=True)
    ]
    return _selected(found, answer[:-1])


def objects_of(regions: Sequence[Instances], background: int) -> list[Instances]:
    """Return the regions of each image whose `gt_classes` is an object's; a GPU is asked once."""
    classes = torch.cat([item.gt_classes for item in regions])
    return _selected(regions, ((classes != -1) & (classes != background)).cpu())


def _selected(items: Sequence[Instances], keep: Tensor) -> list[Instances]:
    """Return the instances that a mask on the CPU marks, one for all of all images."""
    parts = keep.split([len(item) for item in items])
    device = items[0].proposal_boxes.device
    return [
        item if bool(part.all()) else item[part.nonzero().flatten().to(device, non_blocking=True)]
        for item, part in zip(items, parts, strict=True)
    ]
