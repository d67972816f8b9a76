"""Streamed k-means on unit vectors, nearest-centroid scores, smooth label maps, agglomerative merging."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import AgglomerativeClustering, MiniBatchKMeans
from torch import Tensor

from cups.errors import UserError

STRIP = 32
"""Rows of pixels labelled at a time: the work arrays then stay in the processor's cache."""


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """L2-normalise the last axis: (..., D) -> (..., D) float32; zero vectors stay zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


class StreamedKMeans:
    """MiniBatchKMeans (Sculley, WWW 2010) over batches that never have to be in memory together.

    Args:
        k: number of clusters.
        seed: of the k-means++ start and of reassignments.
        init_size: samples that the k-means++ start waits for.
    """

    def __init__(self, k: int, seed: int = 0, init_size: int = 20_000) -> None:
        self.k = k
        self.init_size = max(init_size, 3 * k)
        self._model = MiniBatchKMeans(k, random_state=seed, n_init=3, init_size=self.init_size)
        self._waiting: list[np.ndarray] = []
        self._started = False

    def partial_fit(self, samples: np.ndarray) -> None:
        """Take (N, D) samples; they are L2-normalised here."""
        samples = unit_rows(samples)
        if self._started:
            self._model.partial_fit(samples)
            return
        self._waiting.append(samples)
        if sum(map(len, self._waiting)) >= self.init_size:
            self._start()

    def _start(self) -> None:
        samples = np.concatenate(self._waiting) if self._waiting else np.zeros((0, 1), np.float32)
        if len(samples) < self.k:
            raise UserError(f"--k {self.k}: larger than the {len(samples)} samples; use more images or fewer")
        self._waiting.clear()
        self._model.partial_fit(samples)
        self._started = True

    def centroids(self) -> np.ndarray:
        """Return (k, D) float32, means of unit vectors (norm below 1).

        Raises:
            UserError: fewer samples than clusters were given.
        """
        if not self._started:
            self._start()
        return self._model.cluster_centers_.astype(np.float32)


def fit_kmeans(batches: Iterable[np.ndarray], k: int, seed: int = 0) -> np.ndarray:
    """Cluster streamed batches of (N, D) samples: (k, D) float32 centroids.

    Raises:
        UserError: fewer samples than clusters.
    """
    model = StreamedKMeans(k, seed)
    for batch in batches:
        model.partial_fit(batch)
    return model.centroids()


def centroid_scores(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Score each centroid for each vector; the highest is the nearest (Euclidean) to the unit vector.

    |x - c|^2 / 2 = const - (x.c - |c|^2 / 2), so one matrix product does it.

    vectors: (..., D); centroids: (k, D) -> (..., k) float32.
    """
    if vectors.shape[-1] != centroids.shape[1]:
        raise ValueError(f"vectors have {vectors.shape[-1]} channels, centroids {centroids.shape[1]}")
    return unit_rows(vectors) @ centroids.T - 0.5 * (centroids**2).sum(axis=1)


def assign(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the nearest centroid of each vector: (..., D), (k, D) -> (...) int64."""
    return centroid_scores(vectors, centroids).argmax(axis=-1)


def smooth_labels(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Argmax of bilinearly upsampled scores (half-pixel centres), without upsampling all of them.

    Between four neighbouring cells a label can only win where it is strong at a corner, so each square of
    cells compares just the winners at its corners and its centre: five candidates whatever the number of
    labels. (A label that wins in between only is missed: about one pixel in a thousand at k = 300.)

    Args:
        scores: (h, w, k) float; size: (H, W) of the output, not smaller than (h, w).

    Returns:
        (H, W) int64 label of each pixel.
    """
    # One more cell on each side, repeated: pixels beyond the outer cell centres take the border's value.
    padded = F.pad(scores.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0)
    corners = torch.stack((padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]))
    winners = torch.cat((corners.argmax(dim=3), corners.mean(dim=0).argmax(dim=2)[None]))
    index = winners[None, ..., None].expand(4, -1, -1, -1, -1)
    values = corners[:, None].expand(-1, len(winners), -1, -1, -1).gather(4, index)[..., 0]
    rows, down = _positions(scores.shape[0], size[0], scores)
    columns, right = _positions(scores.shape[1], size[1], scores)
    winners = winners.to(torch.int16)
    labels = torch.empty(size, dtype=torch.int64, device=scores.device)
    for start in range(0, size[0], STRIP):
        part = slice(start, start + STRIP)
        upper_left, upper_right, lower_left, lower_right = values[:, :, rows[part]]
        left = torch.lerp(upper_left, lower_left, down[part, None])
        slope = torch.lerp(upper_right, lower_right, down[part, None]) - left
        best = torch.full((len(left[0]), size[1]), -torch.inf, dtype=left.dtype, device=left.device)
        label = torch.zeros(best.shape, dtype=torch.int16, device=left.device)
        for candidate, at_left, change in zip(winners, left, slope, strict=True):
            value = torch.addcmul(at_left.index_select(1, columns), change.index_select(1, columns), right)
            label = torch.where(value > best, candidate[rows[part]].index_select(1, columns), label)
            best = torch.maximum(best, value)
        labels[part] = label
    return labels


def _positions(cells: int, pixels: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """For each pixel centre the index of its square of (padded) cells, and the fraction inside it."""
    position = (torch.arange(pixels, device=like.device, dtype=torch.float64) + 0.5) * cells / pixels + 0.5
    index = position.floor().clamp(0, cells).long()
    return index, (position - index).to(like.dtype)


def merge_centroids(centroids: np.ndarray, count: int) -> np.ndarray:
    """Merge centroids to `count` groups, agglomeratively by average cosine distance, without labels.

    centroids: (k, D) -> (k,) int64 group of each, numbered by first appearance.

    Raises:
        UserError: more groups than centroids.
    """
    if count > len(centroids):
        raise UserError(f"--merge_to {count}: more than --k {len(centroids)}; choose fewer")
    model = AgglomerativeClustering(n_clusters=count, metric="cosine", linkage="average")
    groups = model.fit_predict(unit_rows(centroids).astype(np.float64))
    _, first = np.unique(groups, return_index=True)
    order = np.empty(count, dtype=np.int64)
    order[np.argsort(first)] = np.arange(count)
    return order[groups]
