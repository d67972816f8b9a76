"""Classes of objects: whole instances are clustered by size in the world, by shape, and by what they show.

A pixel of a car looks like one of a truck; the whole of it does not. U2Seg (Niu et al., CVPR 2024) clusters
features of instances, too; here depth adds how large they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import vq
from scipy.ndimage import find_objects

from cups.ops.components import relabel_by_area
from cups.ops.ground import fit_ground
from cups.ops.regions import Regions

SPREADS = (0.44, 0.58, 0.48, 0.50, 0.11, 0.15)
"""One unit of each number of the geometry: the standard deviation among objects of toy streets."""
GEOMETRY = len(SPREADS)
CLUSTER_SPREAD = 0.93
"""One unit of the histogram of clusters, so that it counts as much as the whole geometry."""
NO_STREET = (0.22, 1.10)
"""Ends of an object in camera heights, lower and upper, where no street is seen: means of toy streets."""
OUTLIERS = 2
"""Percent of an object's rows and columns at each side that do not count for its extent."""
HIGHEST = 6.0
"""Camera heights: what is higher above the street is an error of the depth."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a frame.

    Attributes:
        ids: (N,) int64 of an instance map.
        vectors: (N, 6 + K) float32.
        street: whether a street was seen; else the two ends of each object are `NO_STREET`.
    """

    ids: np.ndarray
    vectors: np.ndarray
    street: bool = True


def follow_edges(instances: np.ndarray, regions: Regions, min_area: int) -> np.ndarray:
    """Give each region of even colour to what has most of its pixels, an instance or none.

    Outlines by the depth of a network are blurred; those of the image are sharp.

    Args:
        instances: (H, W) ids, 0 = none.
        regions: of the same size.
        min_area: pixels; smaller instances are dropped.

    Returns:
        (H, W) uint16 ids, 1, 2, ... in falling area.
    """
    return relabel_by_area(regions.spread(regions.most_frequent(instances)), min_area)


def describe_objects(
    semantic: np.ndarray, instances: np.ndarray, depth: np.ndarray, num_classes: int
) -> Objects:
    """Describe each instance as a whole.

    The first six numbers are its geometry: log height and log width, both times depth, log of the ratio of
    the sides, its lower and upper end in camera heights above the street, and how much of its box it fills.
    The others are square roots of the shares of the K clusters in it, so that Euclidean distance is
    Hellinger's.

    Args:
        semantic: (H, W) clusters, values from `num_classes` on are void.
        instances: (H, W) ids, 0 = none.
        depth: (H, W) float32, positive, any unit, the same for all frames.
        num_classes: K.
    """
    ground = fit_ground(depth)
    heights = None if ground is None else np.clip(ground.height(depth), -1, HIGHEST)
    ids, vectors = [], []
    for index, box in enumerate(find_objects(instances.astype(np.int32)), start=1):
        if box is None:
            continue
        mask = instances[box] == index
        ends = NO_STREET if heights is None else np.percentile(heights[box][mask], (5, 95))
        geometry = _geometry(mask, float(np.median(depth[box][mask])) / len(depth), ends)
        shares = np.bincount(np.minimum(semantic[box][mask], num_classes), minlength=num_classes + 1)
        look = np.sqrt(shares[:num_classes] / mask.sum()) / CLUSTER_SPREAD
        ids.append(index)
        vectors.append(np.concatenate((geometry, look)))
    shape = (len(ids), GEOMETRY + num_classes)
    found = np.reshape(vectors, shape).astype(np.float32)
    return Objects(np.array(ids, dtype=np.int64), found, ground is not None)


def _geometry(mask: np.ndarray, scale: float, ends: Sequence[float]) -> np.ndarray:
    """Return the six numbers of a mask in their units; scale: of a pixel in the world."""
    rows, columns = np.nonzero(mask)
    height, width = (
        float(np.ptp(np.percentile(side, (OUTLIERS, 100 - OUTLIERS)))) + 1 for side in (rows, columns)
    )
    size = (math.log(height * scale), math.log(width * scale), math.log(width / height))
    numbers = np.array((*size, *ends, mask.sum() / (height * width)))
    return np.asarray(numbers / np.array(SPREADS) / math.sqrt(GEOMETRY))


def fit_classes(vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Cluster objects by k-means: (N, D) -> (k, D) float32 centroids; N must be at least k."""
    from sklearn.cluster import KMeans  # here: with known classes a step starts faster

    return np.asarray(KMeans(k, n_init=5, random_state=seed).fit(vectors).cluster_centers_, dtype=np.float32)


def classes_of(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the nearest centroid of each object: (N, D), (k, D) -> (N,) int64."""
    if not len(vectors):
        return np.zeros(0, dtype=np.int64)
    return vq(vectors, centroids, check_finite=False)[0].astype(np.int64)


def label_table(centroids: np.ndarray, things: Sequence[int], num_classes: int, void: int) -> np.ndarray:
    """Return what a pixel outside of all objects becomes, by its cluster: (K + 1,) int64.

    Stuff is numbered 0, 1, ... in its order, classes of objects follow. A cluster of things becomes the
    class whose objects hold most of it, and void where none holds any.

    Args:
        things: clusters that are things.
        num_classes: K.
        void: the value of void, the last entry.
    """
    table = np.full(num_classes + 1, void, dtype=np.int64)
    stuff = [index for index in range(num_classes) if index not in set(things)]
    table[stuff] = np.arange(len(stuff))
    looks = centroids[:, GEOMETRY:]
    for thing in things:
        if looks[:, thing].any():
            table[thing] = len(stuff) + int(looks[:, thing].argmax())
    return table


def object_semantics(
    semantic: np.ndarray, instances: np.ndarray, objects: Objects, classes: np.ndarray, table: np.ndarray
) -> np.ndarray:
    """Return the semantics with classes of objects: (H, W) int64.

    Args:
        classes: (N,) value of each object.
        table: of all other pixels, see `label_table`.
    """
    of_instance = np.full(int(instances.max(initial=0)) + 1, -1, dtype=np.int64)
    of_instance[objects.ids] = classes
    inside = of_instance[instances]
    return np.where(inside >= 0, inside, table[np.minimum(semantic, len(table) - 1)])
