"""Centroids that were fitted elsewhere are read as data; names beside them stay aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from pseudo_labels.inputs.centroids import read_centroids, stored_names


def test_read_centroids__both_forms(tmp_path: Path) -> None:
    """Ours has settings beside the array, earlier ones float64 and the names."""
    made = np.random.default_rng(0).standard_normal((4, 90))
    names = np.array([0, 2, 11, 255], dtype=np.uint8)
    np.savez(tmp_path / "kmeans_centroids.npz", centroids=made, cluster_to_class=names)
    np.savez(tmp_path / "centroids.npz", centroids=made.astype(np.float32), k=4, seed=0)
    for path in tmp_path.iterdir():
        centroids = read_centroids(path, 4)
        assert centroids.dtype == np.float32 and np.allclose(centroids, made)
    assert stored_names(tmp_path / "centroids.npz") is None
    found = stored_names(tmp_path / "kmeans_centroids.npz")
    assert found is not None and found.tolist() == names.tolist()


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"table": np.ones(3)}, "holds no array centroids"),
        ({"centroids": np.ones(4)}, "expected \\(clusters, channels\\)"),
        ({"centroids": np.ones((4, 2), dtype=int)}, "expected \\(clusters, channels\\)"),
        ({"centroids": np.full((4, 2), np.nan)}, "not finite"),
        ({"centroids": np.array([[None]])}, "unreadable arrays"),
    ],
)
def test_read_centroids__bad_files(arrays: dict[str, Any], reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=rf"bad\.npz: .*{reason}"):
        read_centroids(tmp_path / "bad.npz", 4)


def test_read_centroids__other_number_of_clusters(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", centroids=np.ones((80, 90)))
    with pytest.raises(UserError, match=r"`k` 300: .*a\.npz holds 80 clusters; give `k` 80"):
        read_centroids(tmp_path / "a.npz", 300)


def test_stored_names__must_fit(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", centroids=np.ones((4, 2)), cluster_to_class=np.zeros(3, dtype=np.uint8))
    with pytest.raises(UserError, match="does not fit its clusters"):
        stored_names(tmp_path / "a.npz")
