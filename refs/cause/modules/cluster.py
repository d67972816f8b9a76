"""The cluster probe of CAUSE: class vectors compared with codes by cosine similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Cluster(nn.Module):
    """The modularity codebook and the cluster probe, under the published checkpoint's names.

    Args:
        dim: backbone channels (codebook rows).
        reduced_dim: code channels (probe rows).
        num_codebook: codebook size.
        num_classes: number of clusters.
    """

    def __init__(
        self, dim: int = 768, reduced_dim: int = 90, num_codebook: int = 2048, num_classes: int = 27
    ) -> None:
        super().__init__()
        bound = 1.0 / num_codebook
        self.codebook = nn.Parameter(torch.empty(num_codebook, dim).uniform_(-bound, bound))
        self.cluster_probe = nn.Parameter(torch.randn(num_classes, reduced_dim))

    def similarities(self, codes_map: Tensor) -> Tensor:
        """Cosine of codes and probe vectors: (B, reduced_dim, H, W) -> (B, num_classes, H, W) in -1..1."""
        probe = F.normalize(self.cluster_probe, dim=1)
        return torch.einsum("bchw,kc->bkhw", F.normalize(codes_map, dim=1), probe)

    def log_probabilities(self, codes_map: Tensor, alpha: float = 3.0) -> Tensor:
        """Log-softmax of alpha * cosine: (B, reduced_dim, H, W) -> (B, num_classes, H, W)."""
        return F.log_softmax(alpha * self.similarities(codes_map), dim=1)
