"""The segmentation head of CAUSE-TR: one transformer decoder layer over backbone tokens."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def quantize(features: Tensor, codebook: Tensor) -> Tensor:
    """Replace each feature by the codebook row of highest cosine similarity.

    features: (B, P, D); codebook: (K, D) -> (B, P, D).
    """
    return codebook[nearest_code(features, codebook)]


def nearest_code(features: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the codebook row of highest cosine similarity: (..., D), (K, D) -> (...) int64."""
    # The feature's own norm does not change the argmax.
    return (features @ F.normalize(codebook, dim=1).T).argmax(dim=-1)


class Pointwise(nn.Module):
    """A linear map of the channels, stored as a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.f = nn.Conv2d(inputs, outputs, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """(B, P, inputs) -> (B, P, outputs)."""
        return self.f(codes.transpose(1, 2).unsqueeze(3)).squeeze(3).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and MLP, then the projection to codes; one head, post-norm."""

    def __init__(self, dim: int, reduced_dim: int, hidden: int = 2048, dropout: float = 0.1) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, 1, dropout=dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(dim, 1, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.f1 = nn.Conv2d(dim, reduced_dim, 1)
        self.f2 = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, reduced_dim, 1))

    def forward(self, query: Tensor, position: Tensor, features: Tensor) -> Tensor:
        """query, features: (B, P, dim), position: (P, dim) -> codes (B, P, reduced_dim)."""
        placed = query + position
        attended = self.self_attn(placed, placed, query, need_weights=False)[0]
        query = self.norm1(query + self.dropout(attended))
        attended = self.multihead_attn(query + position, features, features, need_weights=False)[0]
        query = self.norm2(query + self.dropout(attended))
        query = query + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(query), inplace=True))))
        out = features + self.norm3(query)
        tokens = out.transpose(1, 2).unsqueeze(3)
        narrow, wide = self.f1(self.dropout(tokens)), self.f2(self.dropout(tokens))
        return (narrow + wide).squeeze(3).transpose(1, 2)


class Head(nn.Module):
    """Vector-quantised features as queries with learned positions, decoded against the features."""

    def __init__(self, dim: int, reduced_dim: int, num_queries: int, hidden: int) -> None:
        super().__init__()
        # Not `randn` times a number: on the meta device (sizes are compared there) it loads torch's compiler.
        self.query_pos = nn.Parameter(torch.normal(0.0, 0.02, (num_queries, dim)))
        self.tr = DecoderLayer(dim, reduced_dim, hidden)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return positions of a token grid (H, W): (H * W, dim).

        The published head has a square grid of fixed size; other grids (our extension) get its bicubic
        interpolation.
        """
        count, dim = self.query_pos.shape
        side = math.isqrt(count)
        if grid == (side, side) or (side * side != count and grid[0] * grid[1] == count):
            return self.query_pos
        if side * side != count:
            raise ValueError(f"{count} positions are no square grid and cannot be resized to {grid}")
        square = self.query_pos.T.reshape(1, dim, side, side)
        return F.interpolate(square, size=grid, mode="bicubic", align_corners=False)[0].flatten(1).T

    def forward(
        self,
        features: Tensor,
        codebook: Tensor,
        grid: tuple[int, int] | None = None,
        nearest: Tensor | None = None,
    ) -> Tensor:
        """Return codes of backbone tokens.

        Args:
            features: (B, P, dim).
            codebook: (K, dim), the modularity codebook.
            grid: (H, W) with H * W = P; by default P is a square, or exactly the head's own token count.
            nearest: (B, P) int64, the `nearest_code` of each token; by default it is found here.

        Returns:
            (B, P, reduced_dim).
        """
        if grid is None:
            tokens = features.shape[1]
            side = math.isqrt(tokens)
            grid = (side, side) if side * side == tokens else (1, tokens)
        queries = quantize(features, codebook) if nearest is None else codebook[nearest]
        return self.tr(queries, self.positions(grid), features)


class SegmentTR(nn.Module):
    """Student and teacher head with their projections, and the linear probe of the published checkpoints.

    Args:
        dim: backbone channels.
        reduced_dim: code channels.
        projection_dim: channels of the contrastive space.
        num_classes: outputs of `linear`, a probe that upstream trains with labels; we only carry it.
        num_queries: tokens per window, a square number for square windows.
        hidden: hidden width of the decoder's MLP.
    """

    def __init__(
        self,
        dim: int = 768,
        reduced_dim: int = 90,
        projection_dim: int = 2048,
        num_classes: int = 27,
        num_queries: int = 529,
        hidden: int = 2048,
    ) -> None:
        super().__init__()
        self.head = Head(dim, reduced_dim, num_queries, hidden)
        self.projection_head = Pointwise(reduced_dim, projection_dim)
        self.head_ema = copy.deepcopy(self.head)
        self.projection_head_ema = copy.deepcopy(self.projection_head)
        self.linear = Pointwise(reduced_dim, num_classes)
        for module in (self.head_ema, self.projection_head_ema):
            module.requires_grad_(False)


@torch.no_grad()
def ema_update(model: SegmentTR, decay: float = 0.99) -> None:
    """Move the teacher towards the student: ema = decay * ema + (1 - decay) * student."""
    pairs = ((model.head_ema, model.head), (model.projection_head_ema, model.projection_head))
    for teacher, student in pairs:
        for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - decay)


def flip_average(codes: Tensor, codes_of_flipped: Tensor, grid: tuple[int, int]) -> Tensor:
    """Average the codes of an image and those of its mirror image: (B, P, C) each -> (B, P, C)."""
    batch, tokens, channels = codes.shape
    mirrored = codes_of_flipped.reshape(batch, *grid, channels).flip(2).reshape(batch, tokens, channels)
    return (codes + mirrored) / 2
