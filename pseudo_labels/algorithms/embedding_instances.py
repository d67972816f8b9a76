"""Instances from pixel embeddings and boundaries, as JointRefineNet learns them."""

from __future__ import annotations

import numpy as np

from cups.ops.components import cut_components, keep_components

MEAN_SHIFTS = 5
"""Steps that a centre makes towards the middle of its cluster."""
LEAST_CLUSTER = 8
"""Pixels; what is left over in smaller crumbs belongs to no cluster."""
REACH = 5
"""Pixels over which boundaries and crumbs are given to their neighbours."""


def embedding_clusters(points: np.ndarray, bandwidth: float) -> np.ndarray:
    """Cluster embeddings by mean shift with a flat kernel: (N, E) float -> (N,) int32, 1, 2, ..., 0 = none.

    As De Brabandere et al. (2017, section 2.2) do: a centre starts at a point without cluster, moves to the
    mean of all points within the bandwidth, and then takes those of them that are still free.

    Args:
        bandwidth: the loss's `delta_d`; centres lie at least twice as far apart.
    """
    clusters = np.zeros(len(points), dtype=np.int32)
    free = np.arange(len(points))
    count = 0
    while len(free):
        # The middle one: raster order starts at an object's border, whose embedding is the least sure.
        center = points[free[len(free) // 2]]
        for _ in range(MEAN_SHIFTS):
            near = np.square(points - center).sum(axis=1) < bandwidth**2
            if not near.any():
                break
            center = points[near].mean(axis=0)
        taken = np.square(points[free] - center).sum(axis=1) < bandwidth**2
        taken[len(free) // 2] = True
        if taken.sum() >= LEAST_CLUSTER:
            count += 1
            clusters[free[taken]] = count
        free = free[~taken]
    return clusters


def embedding_instances(
    embedding: np.ndarray,
    boundary: np.ndarray,
    things: np.ndarray,
    *,
    bandwidth: float = 1.5,
    min_area: int = 1,
) -> np.ndarray:
    """Return instances inside things: (H, W) uint16, 0 = none, 1, 2, ... in falling area.

    Connected parts of an embedding cluster, cut where a boundary runs. Parts below `min_area` and the
    boundaries themselves go to the nearest instance.

    Args:
        embedding: (E, H, W) float.
        boundary: (H, W) bool.
        things: (H, W) bool.
        bandwidth: distance from a cluster's centre to its farthest pixel.
        min_area: pixels.
    """
    regions = np.zeros(things.shape, dtype=np.int32)
    regions[things] = embedding_clusters(embedding[:, things].T, bandwidth)
    components = cut_components(regions, boundary)
    return keep_components(components, things.astype(np.uint8), min_area=min_area, dilation=REACH)
