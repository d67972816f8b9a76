"""Semantic probabilities that follow the edges of the image, region by region; no label is involved.

The network's semantic output is four times coarser than the image. A region of even colour lies on one side
of the edges, so the mean over it is an upsampling that the image itself guides (in the manner of joint
bilateral upsampling, Kopf et al., SIGGRAPH 2007). Stage 1 gives its clusters the same regions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cups.ops.regions import even_regions
from cups.ops.resize import resize_ids


def region_means(values: Tensor, ids: Tensor, count: int) -> Tensor:
    """Average maps over regions: (C, H, W) float32 and (H, W) int64 ids in 0..count-1 -> (C, count).

    A region without pixels gets 0.
    """
    flat = ids.flatten()
    areas = torch.bincount(flat, minlength=count).clamp(min=1)
    sums = values.new_zeros((values.shape[0], count)).index_add_(1, flat, values.flatten(1))
    return sums / areas


def snap_to_regions(probabilities: Tensor, image: Tensor) -> Tensor:
    """Give each pixel the mean probabilities of its region of the image.

    Args:
        probabilities: (C, H, W) float32.
        image: (3, h, w) float RGB 0-1 of the same scene, any size.

    Returns:
        (C, H, W); what sums to 1 over C still does.
    """
    size = int(probabilities.shape[-2]), int(probabilities.shape[-1])
    ids, count = regions_at(image, size, probabilities.device)
    return region_means(probabilities, ids, count)[:, ids]


def regions_at(image: Tensor, size: tuple[int, int], device: torch.device) -> tuple[Tensor, int]:
    """Return the regions of an image (3, h, w) at another size, (H, W) int64 ids, and their number."""
    pixels = image.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    regions = even_regions(np.ascontiguousarray(pixels))
    return resize_ids(torch.from_numpy(regions.ids).to(device), size), regions.count
