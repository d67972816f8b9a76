"""Self-query decoder: queries from the image, energy maps, adaptive bins (SQLdepth, Wang et al. 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_TOKENS = 500
"""Rows of the learned positions in the published checkpoints."""
HEADS = 4
"""Attention heads; `model_dim` must be a multiple."""
BIN_OFFSET = 0.1
"""Keeps every bin open before the widths are normalised."""


class SelfQueryDecoder(nn.Module):
    """Depth from features, as a mixture of per-image depth bins.

    Args:
        model_dim: channels E of the features.
        patch_size: side of the patches that become tokens, in feature pixels.
        query_nums: number Q of tokens used as queries; the image must give at least that many.
        dim_out: number of depth bins.
        min_depth, max_depth: range of the bins, metres where training gave a scale.
        feedforward: hidden width of the transformer (1024; 512 in the lite variant).
    """

    def __init__(
        self,
        model_dim: int = 32,
        patch_size: int = 32,
        query_nums: int = 64,
        dim_out: int = 64,
        min_depth: float = 0.001,
        max_depth: float = 80.0,
        feedforward: int = 1024,
    ) -> None:
        super().__init__()
        self.query_nums, self.min_depth, self.max_depth = query_nums, min_depth, max_depth
        layer = nn.TransformerEncoderLayer(model_dim, HEADS, feedforward, dropout=0.1, batch_first=True)
        self.positional_encodings = nn.Parameter(torch.rand(MAX_TOKENS, model_dim))
        self.embedding_convPxP = nn.Conv2d(model_dim, model_dim, patch_size, stride=patch_size)
        self.transformer_encoder = nn.TransformerEncoder(layer, num_layers=4, enable_nested_tensor=False)
        self.conv3x3 = nn.Conv2d(model_dim, model_dim, 3, padding=1)
        self.bins_regressor = nn.Sequential(
            nn.Linear(model_dim * query_nums, 16 * query_nums),
            nn.LeakyReLU(),
            nn.Linear(16 * query_nums, 256),
            nn.LeakyReLU(),
            nn.Linear(256, dim_out),
        )
        self.convert_to_prob = nn.Sequential(nn.Conv2d(query_nums, dim_out, 1), nn.Softmax(dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, E, h, w) -> depth (B, 1, h, w) between `min_depth` and `max_depth`.

        Raises:
            ValueError: when the image gives fewer tokens than queries, or more than there are positions.
        """
        queries = self.queries(features)
        features = self.conv3x3(features)
        energy = torch.einsum("bqe,behw->bqhw", queries, features)
        attention = energy.flatten(2).softmax(dim=2)
        summary = attention @ features.flatten(2).transpose(1, 2)
        centres = self.bin_centres(summary)
        probabilities = self.convert_to_prob(energy)
        return torch.einsum("bkhw,bk->bhw", probabilities, centres)[:, None]

    def queries(self, features: Tensor) -> Tensor:
        """Return the first Q tokens of the transformer over patches: (B, Q, E)."""
        patches = self.embedding_convPxP(features).flatten(2).transpose(1, 2)
        count = patches.shape[1]
        if not self.query_nums <= count <= MAX_TOKENS:
            raise ValueError(
                f"features of {features.shape[-2]} x {features.shape[-1]} give {count} tokens; "
                f"between {self.query_nums} (queries) and {MAX_TOKENS} are needed: change the image or "
                "patch size"
            )
        tokens = self.transformer_encoder(patches + self.positional_encodings[:count])
        return tokens[:, : self.query_nums]

    def bin_centres(self, summary: Tensor) -> Tensor:
        """Summaries (B, Q, E) -> rising depths (B, dim_out)."""
        widths = F.relu(self.bins_regressor(summary.flatten(1))) + BIN_OFFSET
        widths = (self.max_depth - self.min_depth) * widths / widths.sum(dim=1, keepdim=True)
        upper = self.min_depth + widths.cumsum(dim=1)
        return upper - widths / 2
