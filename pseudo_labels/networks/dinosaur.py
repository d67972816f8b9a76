"""DINOSAUR: slots that explain a frozen network's patch features (Seitzer et al., ICLR 2023).

Tokens are handled as a set with coordinates, so any grid, any crop and any subset of tokens goes through the
same code: features (B, N, F) with coordinates (B, N, 2), the token centres (y, x) in 0-1 of the whole image.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cups.visualization import overlay, pseudo_palette
from pseudo_labels.networks.weight_files import rebuild_network, save_weights

EPS = 1e-8
"""Keeps the mean over tokens of a slot that no token chose defined (Locatello et al., 2020)."""
CHUNK_ELEMENTS = 2**27
"""Largest hidden layer of the decoder at inference, elements (512 MB in fp32)."""


def token_coordinates(rows: int, columns: int) -> Tensor:
    """Return the centres (y, x) of a grid of tokens in 0-1: (rows, columns, 2)."""
    axes = ((torch.arange(count, dtype=torch.float32) + 0.5) / count for count in (rows, columns))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def slot_noise(num_slots: int, dim: int, seed: int, name: str) -> Tensor:
    """Return standard normal noise (num_slots, dim), the same for the same seed and name of a frame."""
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    return torch.from_numpy(rng.standard_normal((num_slots, dim), dtype=np.float32))


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Let slots compete for tokens (Locatello et al., 2020, algorithm 1).

    Args:
        queries: (B, S, D), one for each slot; keys, values: (B, N, D).

    Returns:
        updates (B, S, D): for each slot the mean of the values weighted by its attention; attention (B, S, N)
        float32, which sums to 1 over the *slots*.
    """
    logits = torch.einsum("bsd,bnd->bsn", queries, keys).float() * queries.shape[-1] ** -0.5
    attention = logits.softmax(dim=1)
    weights = attention + EPS
    weights = weights / weights.sum(dim=2, keepdim=True)
    return torch.einsum("bsn,bnd->bsd", weights.to(values.dtype), values), attention


class SlotAttention(nn.Module):
    """Slot attention: each iteration attends, then updates each slot by a GRU and a residual MLP.

    The state of the GRU is the slot as it is; only queries see it layer-normalised.
    """

    def __init__(self, dim: int, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations
        self.norm_inputs, self.norm_slots, self.norm_mlp = (nn.LayerNorm(dim) for _ in range(3))
        self.to_query, self.to_key, self.to_value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.gru = nn.GRUCell(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(inplace=True), nn.Linear(4 * dim, dim))

    def forward(self, inputs: Tensor, slots: Tensor) -> Tensor:
        """(B, N, D) inputs, (B, S, D) initial slots -> (B, S, D) slots."""
        inputs = self.norm_inputs(inputs)
        keys, values = self.to_key(inputs), self.to_value(inputs)
        for _ in range(self.iterations):
            updates, _ = attend(self.to_query(self.norm_slots(slots)), keys, values)
            state = self.gru(updates.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
            slots = state + self.mlp(self.norm_mlp(state))
        return slots


class MLPDecoder(nn.Module):
    """Spatial broadcast decoder: an MLP on slot plus position gives features and an alpha for each token.

    The linear maps at both ends commute with the sums around them (slot plus position before the first, the
    alpha-weighted mean over slots after the last), so they run on slots, positions and means, not on every
    pair of slot and token: same values, and neither (B, S, N, slot_dim) nor (B, S, N, feature_dim) is made.

    Args:
        grid: (rows, columns) of the learned positions; between its cells they are interpolated.
    """

    def __init__(
        self, slot_dim: int, feature_dim: int, hidden_dim: int, layers: int, grid: Sequence[int]
    ) -> None:
        super().__init__()
        # Not `randn` times a number: on the meta device (sizes are compared there) it loads torch's compiler.
        self.positions = nn.Parameter(torch.normal(0.0, slot_dim**-0.5, (1, slot_dim, *grid)))
        self.first = nn.Linear(slot_dim, hidden_dim)
        middle: list[nn.Module] = [nn.ReLU(inplace=True)]
        for _ in range(layers - 1):
            middle += [nn.Linear(hidden_dim, hidden_dim), nn.ReLU(inplace=True)]
        self.middle = nn.Sequential(*middle)
        self.to_alpha = nn.Linear(hidden_dim, 1)
        self.to_features = nn.Linear(hidden_dim, feature_dim)

    def position_embeddings(self, coordinates: Tensor) -> Tensor:
        """Look up learned positions: (B, N, 2) coordinates -> (B, N, slot_dim)."""
        places = 2 * coordinates.flip(-1) - 1
        looked_up = F.grid_sample(
            self.positions, places[None], mode="bilinear", padding_mode="border", align_corners=False
        )
        return looked_up[0].permute(1, 2, 0)

    def _hidden(self, slots: Tensor, embeddings: Tensor) -> Tensor:
        """(B, S, D) slots, (B, N, D) positions -> (B, S, N, H)."""
        shift = F.linear(embeddings, self.first.weight)
        return self.middle(self.first(slots)[:, :, None] + shift[:, None])

    def forward(self, slots: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstructed features (B, N, F) and alphas (B, S, N), which sum to 1 over slots.

        slots: (B, S, D); coordinates: (B, N, 2).
        """
        hidden = self._hidden(slots, self.position_embeddings(coordinates))
        alphas = self.to_alpha(hidden)[..., 0].float().softmax(dim=1)
        return self.to_features(torch.einsum("bsn,bsnh->bnh", alphas.to(hidden.dtype), hidden)), alphas

    def alphas(self, slots: Tensor, coordinates: Tensor) -> Tensor:
        """Return the alphas alone, a few slots at a time: memory does not grow with the number of slots."""
        embeddings = self.position_embeddings(coordinates)
        count = max(1, CHUNK_ELEMENTS // (embeddings.shape[:2].numel() * self.first.out_features))
        logits = [self.to_alpha(self._hidden(part, embeddings))[..., 0] for part in slots.split(count, dim=1)]
        return torch.cat(logits, dim=1).float().softmax(dim=1)


class Reconstruction(NamedTuple):
    """Standardised features (B, M, F), their reconstruction (B, M, F) and the alphas (B, S, M)."""

    target: Tensor
    features: Tensor
    alphas: Tensor


class Dinosaur(nn.Module):
    """Feature MLP, slot attention and decoder over the frozen features of any backbone.

    Args:
        feature_dim: channels of the features.
        grid: (rows, columns) of the decoder's positions, one for each token or fewer: they are interpolated.
        num_slots: slots of training; the slots share one Gaussian, so other numbers work too.
        decoder_dim, decoder_layers: hidden width and hidden layers of the decoder.
        encode_position: add a linear map of each token's place to its features (Locatello et al., 2020), for
            standardised features that do not tell where they are (a transformer's do).
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self,
        feature_dim: int,
        grid: Sequence[int],
        num_slots: int = 30,
        slot_dim: int = 256,
        decoder_dim: int = 2048,
        decoder_layers: int = 3,
        iterations: int = 3,
        encode_position: bool = False,
    ) -> None:
        super().__init__()
        self.num_slots, self.slot_dim = num_slots, slot_dim
        self.register_buffer("feature_mean", torch.zeros(feature_dim))
        self.register_buffer("feature_std", torch.ones(feature_dim))
        self.to_position: nn.Linear | None = None
        if encode_position:
            self.to_position = nn.Linear(2, feature_dim)
            # As strong as standardised features: with torch's smaller weights slots stay alike for long.
            nn.init.normal_(self.to_position.weight)
        self.feature_mlp = nn.Sequential(
            nn.LayerNorm(feature_dim),
            nn.Linear(feature_dim, feature_dim),
            nn.ReLU(inplace=True),
            nn.Linear(feature_dim, slot_dim),
        )
        self.slot_mean, self.slot_log_std = (
            nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, slot_dim))) for _ in range(2)
        )
        self.attention = SlotAttention(slot_dim, iterations)
        self.decoder = MLPDecoder(slot_dim, feature_dim, decoder_dim, decoder_layers, grid)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Standardise features from now on: mean, std: (F,)."""
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)

    def slots(self, standardized: Tensor, coordinates: Tensor, noise: Tensor) -> Tensor:
        """(B, N, F) standardised features, (B, N, 2), (B, S, D) standard normal noise -> (B, S, D) slots."""
        if self.to_position is not None:
            standardized = standardized + self.to_position(2 * coordinates - 1)
        start = self.slot_mean + self.slot_log_std.exp() * noise
        return self.attention(self.feature_mlp(standardized), start)

    def forward(
        self, features: Tensor, coordinates: Tensor, noise: Tensor, decoded: Tensor | None = None
    ) -> Reconstruction:
        """Reconstruct features from slots.

        Args:
            features: (B, N, F); coordinates: (B, N, 2); noise: (B, S, slot_dim), standard normal.
            decoded: (B, M) indices of the tokens to reconstruct (all by default). The decoder treats tokens
                one by one, so a random subset gives an unbiased loss at a fraction of the memory.
        """
        standardized = (features - self.feature_mean) / self.feature_std
        slots = self.slots(standardized, coordinates, noise)
        if decoded is not None:
            standardized, coordinates = (
                one.take_along_dim(decoded[..., None], dim=1) for one in (standardized, coordinates)
            )
        return Reconstruction(standardized, *self.decoder(slots, coordinates))

    @torch.no_grad()
    def masks(self, features: Tensor, noise: Tensor) -> Tensor:
        """Return the alphas of whole images: (B, h, w, F) features, (B, S, D) noise -> (B, h, w, S)."""
        grid = features.shape[1:3]
        coordinates = token_coordinates(*grid).to(features).flatten(0, 1).expand(len(features), -1, -1)
        standardized = (features.flatten(1, 2) - self.feature_mean) / self.feature_std
        slots = self.slots(standardized, coordinates, noise)
        return self.decoder.alphas(slots, coordinates).unflatten(2, grid).permute(0, 2, 3, 1)


def slot_picture(image: np.ndarray, slots: np.ndarray, num_slots: int) -> np.ndarray:
    """Lay slots over an image: (H, W, 3) uint8, (H, W) integers below `num_slots` -> (H, W, 3) uint8."""
    return overlay(image, np.stack((slots, np.zeros_like(slots)), axis=-1), pseudo_palette(num_slots))


def save_dinosaur(
    path: Path, network: Dinosaur, shape: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Write a network as one file with its constructor's arguments (`shape`) and further settings."""
    content = {"network": "Dinosaur", "shape": dict(shape), **settings}
    save_weights(path, network.state_dict(), content)


def load_dinosaur(path: Path) -> tuple[Dinosaur, dict[str, Any]]:
    """Return (network in evaluation mode, settings) as `save_dinosaur` wrote them.

    Raises:
        UserError: missing file, or another network's.
    """
    return rebuild_network(path, lambda saved: Dinosaur(**saved["shape"]), "DINOSAUR", "train_dinosaur.py")
