"""The contrastive loss of the CAUSE segmentation head, and its memory bank."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

POSITIVE, NEGATIVE = 0.3, 0.1
"""Cosine of two tokens' codebook rows above / below which they are a positive / negative pair."""
TEMPERATURE = 0.07


def contrastive_loss(anchors: Tensor, others: Tensor, relation: Tensor) -> Tensor:
    """Return CAUSE's InfoNCE: the mean over the positive pairs of an image, then over the images.

    A pair's loss is -log(e^p / sum e^o) with the cosines over `TEMPERATURE` and the sum over all positives
    and negatives of its anchor, the pair itself among them. So many positives share the probability: the
    loss does not fall to 0, and it pulls hardest where a positive is further away than the others.

    Args:
        anchors: (B, P, C) student projections of B images; others: (M, C) teacher projections or bank
            features.
        relation: (B, P, M) cosine of the pair's codebook rows; NaN excludes a pair (a token and itself).

    Returns:
        scalar; 0 where no image has a positive pair.
    """
    logits = F.normalize(anchors, dim=2) @ F.normalize(others, dim=1).T / TEMPERATURE
    positive, negative = relation > POSITIVE, relation < NEGATIVE
    compared = logits.masked_fill(~(positive | negative), -torch.inf).logsumexp(dim=2, keepdim=True)
    count = positive.sum(dim=(1, 2))
    per_image = torch.where(positive, compared - logits, 0.0).sum(dim=(1, 2)) / count.clamp_min(1)
    return per_image[count > 0].mean() if bool(count.any()) else logits.sum() * 0.0


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
        """Store features (N, dim) under their codebook rows `codes` (N,) int64: a random `share` of each row.

        The share is rounded down: of a row that a batch shows once, nothing is kept.
        """
        shuffled = torch.randperm(len(codes), generator=generator).to(codes.device)
        order = shuffled[codes[shuffled].argsort(stable=True)]
        kept = (torch.bincount(codes) * share).long()
        rank = _rank(codes[order])
        order = order[rank < kept[codes[order]]]
        features, codes = features[order], codes[order]
        rank = _rank(codes)
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


def _rank(rows: Tensor) -> Tensor:
    """Return the position of each element among those equal to it: sorted (N,) int64 -> (N,) int64."""
    return torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)
