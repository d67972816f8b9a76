"""Linear discriminants of many classes, fitted in one pass over the data and without a descent."""

from __future__ import annotations

import torch
from torch import Tensor

SHRINKAGE = 0.02
"""Share of the mean variance in the covariance: what keeps rare directions from ruling."""


class Moments:
    """Counts, sums and squares of labelled vectors, from which Fisher's linear discriminants follow.

    Args:
        num_classes: K; dim: D of the vectors.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        self.counts = torch.zeros(num_classes, dtype=torch.float64)
        self.sums = torch.zeros(num_classes, dim, dtype=torch.float64)
        self.squares = torch.zeros(dim, dim, dtype=torch.float64)

    def add(self, vectors: Tensor, labels: Tensor) -> None:
        """Count vectors (N, D) float with their labels (N,) int64, below 0 = void, on one device."""
        kept = labels >= 0
        vectors, labels = vectors[kept].float(), labels[kept]
        sums = vectors.new_zeros(self.sums.shape).index_add(0, labels, vectors)
        self.sums += sums.double().cpu()
        self.counts += torch.bincount(labels, minlength=len(self.counts)).double().cpu()
        self.squares += (vectors.T @ vectors).double().cpu()

    def discriminants(self) -> tuple[Tensor, Tensor]:
        """Return (K, D) weights and (K,) biases of the log of each class's chance, up to a shared term.

        Gaussians of one covariance (Fisher, 1936), which is shrunk towards a multiple of the identity. A
        class without a vector gets the mean of all and a chance below one vector's.
        """
        total = self.counts.sum().clamp_min(1)
        mean = self.sums.sum(dim=0) / total
        means = torch.where(self.counts[:, None] > 0, self.sums / self.counts.clamp_min(1)[:, None], mean)
        between = (means * self.counts[:, None]).T @ means
        covariance = (self.squares - between) / total
        ridge = covariance.diagonal().mean().clamp_min(1e-6)
        covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * ridge * torch.eye(len(mean)).double()
        weights = torch.linalg.solve(covariance, means.T).T
        chances = torch.log((self.counts + 0.5) / total)
        return weights.float(), (chances - 0.5 * (weights * means).sum(dim=1)).float()
