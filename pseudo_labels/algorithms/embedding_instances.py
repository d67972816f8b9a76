"""Instances from pixel embeddings and boundaries, as JointRefineNet learns them."""

from __future__ import annotations

import numpy as np

from cups.ops.components import cut_components, keep_components

MARGIN = 0.5
"""The loss's `delta_v`, how far from its instance's mean a pixel may lie; those of another one lie at least
four times as far apart."""
REACH = 5
"""Pixels over which boundaries and crumbs are given to their neighbours."""


def embedding_steps(embedding: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel to the right or the lower one, the larger: (E, H, W) -> (H, W)."""
    steps = np.zeros(embedding.shape[1:], dtype=np.float32)
    for axis in (1, 2):
        distance = np.linalg.norm(np.diff(embedding, axis=axis), axis=0)
        part = steps[:-1] if axis == 1 else steps[:, :-1]
        np.maximum(part, distance, out=part)
    return steps


def embedding_instances(
    embedding: np.ndarray,
    boundary: np.ndarray,
    things: np.ndarray,
    *,
    margin: float = MARGIN,
    min_area: int = 1,
) -> np.ndarray:
    """Return instances inside things: (H, W) uint16, 0 = none, 1, 2, ... in falling area.

    Connected things, cut where the embedding of neighbours differs by more than the margin, or where a
    boundary runs. Cut pixels and parts below `min_area` go to the nearest instance.

    Args:
        embedding: (E, H, W) float.
        boundary: (H, W) bool.
        things: (H, W) bool.
        margin: in units of the embedding.
        min_area: pixels.
    """
    regions = things.astype(np.uint8)
    components = cut_components(regions, boundary | (embedding_steps(embedding) > margin))
    return keep_components(components, regions, min_area=min_area, dilation=REACH)
