"""Streamed k-means and smooth label maps."""

from __future__ import annotations

import numpy as np
import pytest

from cups.errors import UserError
from cups.ops.kmeans import assign, centroid_scores, fit_kmeans, merge_centroids


def blobs(per_blob: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([np.eye(4)[i] * 3 + rng.normal(0, 0.1, (per_blob, 4)) for i in range(4)])


def test_fit_kmeans__finds_separate_groups_and_repeats() -> None:
    samples = np.random.default_rng(1).permutation(blobs())
    batches = np.array_split(samples, 8)
    first, second = fit_kmeans(batches, 4, seed=3), fit_kmeans(batches, 4, seed=3)
    np.testing.assert_array_equal(first, second)
    labels = assign(blobs(), first).reshape(4, 200)
    assert (labels == labels[:, :1]).all() and len(np.unique(labels)) == 4


def test_fit_kmeans__more_clusters_than_samples() -> None:
    with pytest.raises(UserError, match=r"`k` 9: larger than the 8 samples"):
        fit_kmeans([np.eye(8)], 9)


def test_centroid_scores__order_is_euclidean() -> None:
    rng = np.random.default_rng(0)
    vectors, centroids = rng.normal(size=(50, 6)), rng.normal(size=(7, 6)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = ((unit[:, None] - centroids) ** 2).sum(2)
    np.testing.assert_array_equal(centroid_scores(vectors, centroids).argmax(1), distances.argmin(1))
    with pytest.raises(ValueError, match="channels"):
        centroid_scores(vectors[:, :5], centroids)


def test_merge_centroids__joins_the_parallel_ones() -> None:
    centroids = np.array([[1, 0], [0, 1], [2, 0.1], [0.1, 3]])
    assert merge_centroids(centroids, 2).tolist() == [0, 1, 0, 1]
    with pytest.raises(UserError, match="`merge_to` 5"):
        merge_centroids(centroids, 5)
