"""Settings of overclustering: of its labels, and of the analysis of many numbers of clusters."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import BELOW_ONE, CLUSTERS, COUNT, PATH, SEED, WORKERS, whole
from cups.errors import UserError
from pseudo_labels.settings.cause import EdgeRefinement, HeadsChoice
from pseudo_labels.steps.flags import flag, take_part
from pseudo_labels.steps.folders import DEFAULT_K, mapped_semantics, raw_semantics
from pseudo_labels.steps.frames import SPLITS, FrameSource

CODES, COMPUTED = "codes", ("backbone", "context")
MOST_CLUSTERS = 65534
"""65535 is void in 16 bits."""
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Clustering(HeadsChoice):
    """Clusters."""

    features: str = flag(
        CODES,
        "what is clustered: CAUSE codes, features of the `backbone`, context (these with what lies around "
        "them), or a folder of features in the output root (features_dinov2_vitb14)",
        allowed=PATH,
    )
    regions: bool = flag(
        False,
        "average over regions of even colour before clustering, and label whole regions",
    )
    fit_split: str = flag("train", "split that the clusters are fitted on", choices=(*SPLITS, "all"))
    epochs: int = flag(5, "passes of k-means over the sampled tokens", allowed=whole(1, 10_000))
    tokens_per_image: int = flag(1024, "random tokens taken of each image", allowed=COUNT)
    seed: int = flag(0, "seed of everything random", allowed=SEED)


@dataclass(frozen=True)
class ClusterLabels(Clustering, EdgeRefinement):
    """Labels."""

    k: int = flag(DEFAULT_K, "number of clusters", allowed=CLUSTERS)
    load_centroids: Path | None = flag(
        # What it holds decides, wherever it lies; the centroids that are kept in the folder say so.
        None,
        "take the clusters of this .npz file (centroids, kmeans_centroids) instead of fitting them",
        metavar="FILE",
        decides=False,
    )
    raw: bool = flag(False, "write cluster ids as they are: the default, said aloud", decides=False)
    merge_to: int | None = flag(
        None, "merge clusters to N pseudo-classes, no labels", metavar="N", allowed=CLUSTERS
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.raw and self.merge_to is not None:
            raise UserError("`raw`: give either it or `merge_to`")
        if self.regions and self.crf:
            raise UserError("`regions`: give either it or `crf`")

    @property
    def clusters_folder(self) -> str:
        """Name of the folder of the clusters without names."""
        return raw_semantics(self.k, None if self.raw else self.merge_to)


@dataclass(frozen=True)
class OverclusterSettings(ClusterLabels):
    """Names of clusters.

    Without `mapping` or `names` the labels are the clusters themselves. The names are the 19 trainIds: by
    ground truth ("oracle"), by a file of names, or by the CAUSE class that a cluster overlaps most ("cause"),
    for heads that say which row of their probe is which class.
    """

    mapping: str | None = flag(
        None,
        "write the 19 trainIds instead of clusters, named by ground truth (oracle), or by CAUSE's classes "
        "where the heads know them (cause)",
        choices=("cause", "oracle"),
    )
    names: Path | None = flag(
        None,
        "write the 19 trainIds, as this JSON file names the clusters (of `mapping` oracle, or of "
        "`save_names` in an evaluation)",
        metavar="FILE",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("raw", "merge_to", "mapping", "names") if getattr(self, name)]
        if len(given) > 1:
            raise UserError(f"`{given[0]}`: give either it or `{given[1]}`")

    @property
    def named(self) -> bool:
        """Whether the labels are trainIds."""
        return self.mapping is not None or self.names is not None

    @property
    def oracle(self) -> bool:
        """Whether ground truth is read to name the clusters."""
        return self.mapping == "oracle"

    @property
    def folder(self) -> str:
        """Name of the folder of the labels."""
        return mapped_semantics(self.k) if self.named else self.clusters_folder

    @property
    def recorded(self) -> ClusterLabels:
        """The settings that decide the labels: of clusters without names, those of naming do not."""
        return self if self.named else take_part(ClusterLabels, self)

    def summary(self) -> str:
        """Return one line that says what is written."""
        if self.named:
            source = self.names or {"oracle": "ground truth", "cause": "CAUSE's classes"}[str(self.mapping)]
            return f"{self.folder}: {self.k} clusters, named by the 19 trainIds (from {source})"
        count = self.k if self.merge_to is None else self.merge_to
        return (
            f"{self.folder}: {count} clusters without names, as training takes them; names come from ground "
            "truth only (`mapping` oracle, or `names` FILE), and evaluation needs none"
        )


@dataclass(frozen=True)
class AnalysisFrames(FrameSource):
    """Images with ground truth."""

    split: str = flag("val", "split of leftImg8bit/ and gtFine/", choices=(*SPLITS, "all"), decides=False)
    image_dir: Path | None = flag(None, hidden=True, decides=False)

    def __post_init__(self) -> None:
        if self.cityscapes_root is None:
            raise UserError("`cityscapes_root`: missing; the analysis needs gtFine")
        super().__post_init__()

    @property
    def root(self) -> Path:
        """The Cityscapes root."""
        assert self.cityscapes_root is not None
        return self.cityscapes_root


@dataclass(frozen=True)
class AnalysisSettings(Clustering):
    """Scores."""

    ks: tuple[int, ...] = flag(
        (27, 50, 100, 200, 300, 500), "numbers of clusters", allowed=whole(2, MOST_CLUSTERS)
    )
    num_classes: int = flag(19, "classes to score", choices=(27, 19, 7))
    match_split: str | None = flag(None, "also fit the matchings on this split", choices=(*SPLITS, "all"))
    recovered_iou: float = flag(0.1, "IoU above which a class is recovered", allowed=BELOW_ONE)
    num_workers: int = flag(CORES, "threads", decides=False, allowed=WORKERS)

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of clusters, each once, rising."""
        return tuple(sorted(set(self.ks)))

    @property
    def folder(self) -> str:
        """Name of the folder of the analysis."""
        return f"overclustering_{Path(self.features).name}{'_regions' if self.regions else ''}"
