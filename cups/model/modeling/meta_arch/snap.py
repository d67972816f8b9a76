"""Semantic probabilities that follow the edges of the image, region by region; no label is involved.

The network's semantic output is four times coarser than the image. A region of even colour lies on one side
of the edges, so the mean over it is an upsampling that the image itself guides (in the manner of joint
bilateral upsampling, Kopf et al., SIGGRAPH 2007). Stage 1 gives its clusters the same regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from cups.ops.regions import Regions, even_regions
from cups.ops.resize import resize_ids

MOST_THREADS = 8


def region_means(values: Tensor, ids: Tensor, count: int) -> Tensor:
    """Average maps over regions: (C, H, W) float32 and (H, W) int64 ids in 0..count-1 -> (C, count).

    A region without pixels gets 0.
    """
    flat = ids.flatten()
    areas = torch.bincount(flat, minlength=count).clamp(min=1)
    sums = values.new_zeros((values.shape[0], count)).index_add_(1, flat, values.flatten(1))
    return sums / areas


def snap_to_regions(probabilities: Tensor, regions: Regions) -> Tensor:
    """Give each pixel the mean probabilities of its region of the image.

    Args:
        probabilities: (C, H, W) float32.
        regions: of an image of the same scene, any size.

    Returns:
        (C, H, W); what sums to 1 over C still does.
    """
    size = int(probabilities.shape[-2]), int(probabilities.shape[-1])
    ids, count = regions_at(regions, size, probabilities.device)
    means = region_means(probabilities, ids, count)
    return means.index_select(1, ids.flatten()).view_as(probabilities)  # four times as fast as [:, ids]


def regions_at(regions: Regions, size: tuple[int, int], device: torch.device) -> tuple[Tensor, int]:
    """Return regions at another size, (H, W) int64 ids, and their number."""
    return resize_ids(torch.from_numpy(regions.ids).to(device), size), regions.count


def decide_once(decide: Callable[[Tensor], Tensor], values: Tensor, regions: tuple[Tensor, int]) -> Tensor:
    """Decide for one pixel of each region instead of all, where these have the same values.

    Args:
        decide: (C, 1, N) -> (1, N) integers, each of its own column, or of the largest values of all.
        values: (C, H, W), alike on all pixels of a region.
        regions: ids (H, W) int64 and their number; see `regions_at`.

    Returns:
        (H, W), what `decide` makes of all pixels.
    """
    ids, count = regions
    # Of ids that no pixel has, the first pixel stands in: nobody reads them.
    places = ids.new_zeros(count)
    places[ids.flatten()] = torch.arange(ids.numel(), device=ids.device)
    return decide(values.flatten(1).index_select(1, places)[:, None])[0][ids]


def regions_ahead(images: Sequence[Tensor]) -> list[Future[Regions]]:
    """Begin to find the regions of images (3, h, w) float RGB 0-1, in threads, and return at once.

    The network runs meanwhile: what finds regions does without Python's lock.
    """
    pool = ThreadPoolExecutor(max_workers=min(len(images), MOST_THREADS))
    begun = [pool.submit(even_regions, _pixels(image)) for image in images]
    pool.shutdown(wait=False)  # its threads end with their work
    return begun


def _pixels(image: Tensor) -> np.ndarray:
    pixels = image.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels)
