"""The contrastive loss of the CAUSE segmentation head, and its memory bank."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

POSITIVE, NEGATIVE = 0.3, 0.1
"""Cosine of two tokens' codebook rows above / below which they are a positive / negative pair."""
TEMPERATURE = 0.07


def contrastive_loss(anchors: Tensor, others: Tensor, relation: Tensor) -> Tensor:
    """Return the mean InfoNCE over the anchors that have a positive.

    Each positive is contrasted with all negatives of its anchor: -log(e^p / (e^p + sum e^n)).

    Args:
        anchors: (N, C) student projections; others: (M, C) teacher projections or bank features.
        relation: (N, M) cosine of the pair's codebook rows; NaN excludes a pair (a token and itself).
    """
    logits = F.normalize(anchors, dim=1) @ F.normalize(others, dim=1).T / TEMPERATURE
    positive, negative = relation > POSITIVE, relation < NEGATIVE
    negatives = logits.masked_fill(~negative, -torch.inf).logsumexp(dim=1, keepdim=True)
    terms = F.softplus(negatives - logits)
    count = positive.sum(dim=1)
    per_anchor = torch.where(positive, terms, 0.0).sum(dim=1) / count.clamp_min(1)
    used = (count > 0) & negative.any(dim=1)
    return per_anchor[used].mean() if bool(used.any()) else logits.sum() * 0.0


class MemoryBank:
    """Up to `per_code` teacher projections for each codebook row, in one tensor; oldest are replaced.

    Args:
        num_codes: codebook size; per_code: capacity per row; dim: channels.
    """

    def __init__(self, num_codes: int, per_code: int, dim: int, device: torch.device | str = "cpu") -> None:
        self.per_code = per_code
        self.features = torch.zeros(num_codes, per_code, dim, device=device)
        self.count = torch.zeros(num_codes, dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(self, features: Tensor, codes: Tensor, generator: torch.Generator, share: float = 0.5) -> None:
        """Store a random `share` of features (N, dim) under their codebook rows `codes` (N,) int64."""
        kept = torch.randperm(len(codes), generator=generator)[: max(1, int(len(codes) * share))]
        kept = kept.to(codes.device)
        features, codes = features[kept], codes[kept]
        order = codes.argsort(stable=True)
        features, codes = features[order], codes[order]
        # Position of each feature among those of its own row in this call.
        first = torch.searchsorted(codes, codes)
        rank = torch.arange(len(codes), device=codes.device) - first
        latest = rank >= torch.bincount(codes)[codes] - self.per_code
        slot = (self.count[codes] + rank) % self.per_code
        self.features[codes[latest], slot[latest]] = features[latest]
        self.count += torch.bincount(codes, minlength=len(self.count))

    def sample(self, limit: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return up to `limit` random stored features (M, dim) and their codebook rows (M,) int64."""
        filled = torch.arange(self.per_code, device=self.count.device) < self.count[:, None]
        codes, slots = filled.nonzero(as_tuple=True)
        chosen = torch.randperm(len(codes), generator=generator)[:limit].to(codes.device)
        return self.features[codes[chosen], slots[chosen]], codes[chosen]
