"""The modularity objective that trains the codebook and the cluster probe of CAUSE."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.1


def modularity_loss(features: Tensor, centers: Tensor, chunk: int = 256) -> Tensor:
    """Return minus the modularity of a soft clustering of each image's tokens, averaged over images.

    Edges of the token graph are relu(cosine) without self-loops; tokens i and j count as clustered
    together by max over centres k of tanh(C_ik C_jk / 0.1) with C = relu(cosine to the centres).

    Args:
        features: (B, P, D) tokens.
        centers: (K, D) codebook or cluster probe.
        chunk: centres compared at a time; bounds memory to B * P * P * chunk floats.

    Returns:
        scalar, about -1 (good) .. 0.
    """
    unit = F.normalize(features, dim=2)
    adjacency = (unit @ unit.transpose(1, 2)).relu()
    adjacency = adjacency * (1.0 - torch.eye(unit.shape[1], device=unit.device, dtype=unit.dtype))
    degree = adjacency.sum(dim=2)
    total = degree.sum(dim=1).clamp_min(1e-12)[:, None, None]
    expected = degree[:, :, None] * degree[:, None, :] / total
    assignment = (unit @ F.normalize(centers, dim=1).T).relu()
    together = None
    for part in assignment.split(chunk, dim=2):
        # tanh is rising, so it can wait until after the maximum over the centres.
        best = (part[:, :, None] * part[:, None, :]).amax(dim=3)
        together = best if together is None else torch.maximum(together, best)
    assert together is not None
    delta = torch.tanh(together / TEMPERATURE)
    return -((adjacency - expected) / total * delta.transpose(1, 2)).sum(dim=(1, 2)).mean()


def sample_tokens(
    features: Tensor, grid: tuple[int, int], generator: torch.Generator, window: int = 4
) -> Tensor:
    """Return token indices, one random token of each `window` x `window` cell, the same for the batch.

    Args:
        features: (B, H * W, D), only its device matters.
        grid: (H, W).

    Returns:
        (ceil(H / window) * ceil(W / window),) int64.
    """
    height, width = grid
    rows = _one_per_cell(height, -(-width // window), window, generator)
    columns = _one_per_cell(width, -(-height // window), window, generator).T
    return (rows * width + columns).flatten().to(features.device)


def _one_per_cell(length: int, others: int, window: int, generator: torch.Generator) -> Tensor:
    """(cells, others) int64: for each cell along one axis a random index inside it, drawn `others` times."""
    starts = torch.arange(0, length, window)
    sizes = (length - starts).clamp_max(window)
    draws = torch.rand(len(starts), others, generator=generator)
    return starts[:, None] + (draws * sizes[:, None]).long()
