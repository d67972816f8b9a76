"""Names of clusters as a file: only for the clusters that they were found for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import read_json, write_json
from pseudo_labels.inputs.cluster_names import (
    ClusterNames,
    clusters_in,
    digest_of,
    names_of,
    read_names,
    require_same_clusters,
)

CENTROIDS = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_names__are_read_as_written(tmp_path: Path) -> None:
    names = names_of([13, 255, 0], digest_of(CENTROIDS), "ground truth")
    names.write(tmp_path / "names.json")
    assert read_names(tmp_path / "names.json") == names
    assert names.table.tolist() == [13, 255, 0] and names.table.dtype == np.uint8
    assert read_json(tmp_path / "names.json", "")["uses_ground_truth"] is True
    require_same_clusters(tmp_path, names, CENTROIDS)


def test_names_of__no_class_is_no_name() -> None:
    assert names_of([-1, 19, 3], None, "").names == (255, 255, 3)


def test_read_names__a_file_that_does_not_say_is_unknown(tmp_path: Path) -> None:
    """Silence is not a promise that no label was read."""
    write_json(tmp_path / "a.json", {"kind": "trainId", "num_clusters": 2, "names": [0, 1]})
    assert read_names(tmp_path / "a.json") == ClusterNames((0, 1), None, None, str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "trainId", "num_clusters": 3, "names": [0, 1]},
        {"kind": "cause27", "num_clusters": 2, "names": [0, 1]},
        {"kind": "trainId", "num_clusters": 2, "names": [0, 26]},
        {"kind": "trainId", "num_clusters": 2},
        {"kind": "trainId", "num_clusters": 0, "names": []},
    ],
)
def test_read_names__junk_is_refused(tmp_path: Path, content: dict[str, object]) -> None:
    write_json(tmp_path / "a.json", content)
    with pytest.raises(UserError, match="does not hold the trainId of each cluster"):
        read_names(tmp_path / "a.json")


def test_require_same_clusters__others_are_refused() -> None:
    names = names_of([0, 1, 2], digest_of(CENTROIDS), "")
    with pytest.raises(UserError, match="centroids differ"):
        require_same_clusters(Path("a.json"), names, CENTROIDS[::-1])
    with pytest.raises(UserError, match="names of 3 clusters, but `k` is 2"):
        require_same_clusters(Path("a.json"), names, CENTROIDS[:2])


def test_clusters_in__only_where_the_labels_are_the_clusters(tmp_path: Path) -> None:
    assert clusters_in(tmp_path, 3) is None
    np.savez(tmp_path / "centroids.npz", centroids=CENTROIDS)
    assert clusters_in(tmp_path, 3) == digest_of(CENTROIDS)
    assert clusters_in(tmp_path, 2) is None, "merged"
