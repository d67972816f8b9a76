"""Names of clusters as a file: which of the 19 trainIds each cluster of one clustering is called.

Names come from ground truth: from a vote of its pixels (`mapping` oracle) or from the Hungarian matching of
an evaluation. The file says so, and everything that is made with it does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.files import read_json, read_npz, write_json
from cups.io.fingerprint import array_digest
from cups.io.provenance import code_version
from cups.taxonomy import VOID

KIND = "trainId"
NUM_NAMES = 19
CENTROIDS = "centroids.npz"
"""Written into a folder of clusters by `generate_overclustered_semantics.py`."""
FIX = "save names by `mapping` oracle, or by `save_names` of an evaluation"

log = logging.getLogger(__name__)


def names_file(mapping: str) -> str:
    """Return the file, in a folder of named clusters, that keeps the names which a mapping found."""
    return f"names_{mapping}.json"


def digest_of(centroids: np.ndarray) -> str:
    """Return a digest of centroids (k, D): what tells one clustering from another."""
    return array_digest(np.asarray(centroids, dtype=np.float32))


@dataclass(frozen=True)
class ClusterNames:
    """Names of the clusters of one clustering.

    Attributes:
        names: trainId of each cluster, 255 for none.
        centroids: digest of the centroids (`digest_of`); None where nobody knows.
        uses_ground_truth: whether labels were read to find the names (None: unknown).
        source: where they came from, for people.
    """

    names: tuple[int, ...]
    centroids: str | None
    uses_ground_truth: bool | None
    source: str

    @property
    def table(self) -> np.ndarray:
        """The names as (K,) uint8."""
        return np.array(self.names, dtype=np.uint8)

    def write(self, path: Path) -> None:
        """Write the file, atomically."""
        content = {
            "kind": KIND,
            "num_clusters": len(self.names),
            "names": list(self.names),
            "centroids": self.centroids,
            "uses_ground_truth": self.uses_ground_truth,
            "source": self.source,
            "code_version": code_version(),
        }
        write_json(path, content)


def names_of(
    assignment: Sequence[int] | np.ndarray,
    centroids: str | None,
    source: str,
    uses_ground_truth: bool | None = True,
) -> ClusterNames:
    """Return names from the class of each cluster, (K,); anything but 0-18 is no name."""
    names = tuple(int(value) if 0 <= value < NUM_NAMES else VOID for value in assignment)
    return ClusterNames(names, centroids, uses_ground_truth, source)


def read_names(path: Path) -> ClusterNames:
    """Read a file of names.

    Raises:
        UserError: a missing file, or one that does not hold a trainId (or 255) for each cluster.
    """
    content = read_json(path, FIX)
    try:
        names = tuple(int(value) for value in content["names"])
        count, kind = int(content["num_clusters"]), content["kind"]
        valid = kind == KIND and count == len(names) > 0
        valid = valid and all(0 <= name < NUM_NAMES or name == VOID for name in names)
    except (KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise UserError(f"{path}: does not hold the trainId of each cluster; {FIX}")
    fact, digest = content.get("uses_ground_truth"), content.get("centroids")
    return ClusterNames(
        names,
        digest if isinstance(digest, str) else None,
        fact if isinstance(fact, bool) else None,
        str(content.get("source", path)),
    )


def clusters_in(folder: Path, num_clusters: int) -> str | None:
    """Return the digest of the clustering behind a folder of clusters, None where it does not hold it.

    Clusters that were merged, or refined by a network, are others than those of the centroids.
    """
    path = folder / CENTROIDS
    if not path.is_file():
        return None
    centroids = read_npz(path, ["centroids"])["centroids"]
    return digest_of(centroids) if len(centroids) == num_clusters else None


def require_number(path: Path, names: ClusterNames, count: int) -> None:
    """Refuse names of another number of clusters.

    Raises:
        UserError: it differs.
    """
    if len(names.names) != count:
        raise UserError(
            f"{path}: names of {len(names.names)} clusters, but `k` is {count}; give the file of these"
        )


def require_same_clusters(path: Path, names: ClusterNames, centroids: np.ndarray) -> None:
    """Refuse names of other clusters than these centroids (k, D); warn where the file does not tell.

    Raises:
        UserError: another number of clusters, or other centroids.
    """
    require_number(path, names, len(centroids))
    if names.centroids is None:
        log.warning("%s: does not say whose clusters it names; taken for those of this run", path)
    elif names.centroids != digest_of(centroids):
        raise UserError(f"{path}: names of other clusters than those of this run (centroids differ); {FIX}")
