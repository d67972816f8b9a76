"""Streamed k-means on unit vectors, nearest-centroid scores, agglomerative merging."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cups.errors import UserError


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
        from sklearn.cluster import MiniBatchKMeans  # here: labelling by known clusters needs no scikit-learn

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
            raise UserError(f"`k` {self.k}: larger than the {len(samples)} samples; use more images or fewer")
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


def merge_centroids(centroids: np.ndarray, count: int) -> np.ndarray:
    """Merge centroids to `count` groups, agglomeratively by average cosine distance, without labels.

    centroids: (k, D) -> (k,) int64 group of each, numbered by first appearance.

    Raises:
        UserError: more groups than centroids.
    """
    if count > len(centroids):
        raise UserError(f"`merge_to` {count}: more than `k` {len(centroids)}; choose fewer")
    from sklearn.cluster import AgglomerativeClustering

    model = AgglomerativeClustering(n_clusters=count, metric="cosine", linkage="average")
    groups = model.fit_predict(unit_rows(centroids).astype(np.float64))
    _, first = np.unique(groups, return_index=True)
    order = np.empty(count, dtype=np.int64)
    order[np.argsort(first)] = np.arange(count)
    return order[groups]
