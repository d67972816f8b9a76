"""Overclustered semantics: k-means on vectors of the fitting split, k pseudo-classes for every image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cups.errors import UserError
from cups.io.files import file_sha256
from cups.io.fingerprint import array_digest
from cups.io.png import read_ids, read_image, write_png
from cups.ops.dense_crf import require_dense_crf
from cups.ops.kmeans import fit_kmeans, merge_centroids
from cups.taxonomy import id_dtype
from pseudo_labels.algorithms.overclustering import (
    ClusterMap,
    Fits,
    Reader,
    cause_table,
    sample_vectors,
    shuffled_batches,
)
from pseudo_labels.inputs.centroids import is_of_unknown_origin, read_centroids
from pseudo_labels.networks.vectors import Pooled, vector_source
from pseudo_labels.scoring.oracle_mapping import GROUND_TRUTH_FOLDER, oracle_table
from pseudo_labels.settings.overclusters import OverclusterSettings
from pseudo_labels.steps.earlier import refuse_earlier_crf
from pseudo_labels.steps.folders import CAUSE_SEMANTICS
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.resume import files_besides, reach
from pseudo_labels.steps.step import Step, Summary, run_step
from pseudo_labels.steps.workers import Batched

SCRIPT = "generate_overclustered_semantics"
CENTROIDS = "centroids.npz"


@dataclass(frozen=True, eq=False)
class LabelClusters:
    """Picklable `process` of the step.

    Attributes:
        clusters: frame -> (H, W) cluster ids.
        table: (K,) uint8 or uint16, what is written for each cluster.
        labels: what the written values mean.
    """

    clusters: ClusterMap
    table: np.ndarray
    output: Folder
    labels: LabelKind

    def __call__(self, frame: Frame) -> None:
        """Write the labels of one frame."""
        write_png(self.output.path(frame), self.table[self.clusters(frame)])

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, labels) of one frame for the contact sheet."""
        labels, image = read_ids(self.output.path(frame)), read_image(frame.image)
        return label_pictures(image, labels, None, self.labels.num_classes)

    def in_threads(self) -> Batched[Frame]:
        """Return the same as a step whose frames are worked on in threads of this process."""

        def load(frame: Frame) -> tuple[Tensor, None]:
            return torch.empty(0), None

        def compute(batch: Tensor, _: Sequence[Any]) -> list[None]:
            return [None] * len(batch)

        return Batched(load, compute, lambda frame, _: self(frame))


def centroids_for(
    settings: OverclusterSettings, read: Reader, frames: Sequence[Frame], fits: Fits
) -> np.ndarray:
    """Load the centroids of an earlier run with the same settings, or fit and save them: (k, D) float32.

    With `load_centroids` they are those of that file, and nothing is fitted.
    """
    given = settings.load_centroids
    if given is not None and given.resolve() != (fits.folder / CENTROIDS).resolve():
        found: dict[str, Any] = {"k": settings.k, "loaded": _digest(given)}
        # Whoever made the file chose the images: these here are only labelled.
        return replace(fits, frames=(), source="").load_or_fit(
            CENTROIDS, lambda: loaded_centroids(given, settings.k, read(frames[0])), found
        )

    def fit() -> np.ndarray:
        samples = sample_vectors(frames, read, settings.tokens_per_image, settings.seed, "vectors")
        return fit_kmeans(
            shuffled_batches(samples, settings.epochs, settings.seed), settings.k, settings.seed
        )

    names = ("k", "seed", "features", "regions", "fit_split", "epochs", "tokens_per_image")
    return fits.load_or_fit(CENTROIDS, fit, {name: getattr(settings, name) for name in names})


def _digest(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path}: no such file; check `load_centroids`")
    return file_sha256(path)


def loaded_centroids(path: Path, k: int, vectors: np.ndarray) -> np.ndarray:
    """Read centroids (k, D) that fit the vectors (h, w, D) of a frame.

    Raises:
        UserError: unreadable, another number of clusters, or of channels.
    """
    centroids = read_centroids(path, k)
    if vectors.shape[-1] != centroids.shape[1]:
        raise UserError(
            f"{path}: clusters of {centroids.shape[1]} channels, but the codes have {vectors.shape[-1]}; "
            "give centroids of codes of the same heads, or leave `load_centroids` out"
        )
    return centroids


@dataclass(frozen=True, eq=False)
class Naming:
    """Finds what is written for each cluster.

    Attributes:
        frames: of the fitting split; clusters are named by what they are there.
        read: frame -> vectors that the clusters were fitted on.
        clusters: frame -> cluster ids at image size.
        semantics: the CAUSE labels.
        cityscapes_root: where gtFine is, None for a plain folder of images.
    """

    settings: OverclusterSettings
    frames: Sequence[Frame]
    read: Reader
    clusters: ClusterMap
    semantics: Folder
    cityscapes_root: Path | None

    def table(self, fits: Fits) -> np.ndarray:
        """Return the value of each cluster: (K,) uint8, or uint16 above 254 classes."""
        settings = self.settings
        if not settings.named:
            groups = np.arange(settings.k)
            if settings.merge_to is not None:
                groups = merge_centroids(self.clusters.centroids, settings.merge_to)
            return groups.astype(id_dtype(int(groups.max()) + 1))
        return fits.save_table(f"label_table_{settings.mapping}.npy", self.mapping)

    def mapping(self) -> np.ndarray:
        """Return the trainId that `mapping` gives to each cluster: (K,) uint8."""
        if self.settings.mapping == "cause":
            return cause_table(self.frames, self.read, self.clusters.centroids, self.semantics)
        if self.cityscapes_root is None:
            raise UserError("`mapping` oracle: needs `cityscapes_root` with ground truth; use `raw`")
        return oracle_table(self.frames, self.clusters, self.settings.k, self.cityscapes_root)


def make_overclusters(source: FrameSource, settings: OverclusterSettings, run: FrameRun) -> Summary:
    """Write the clusters, or their names, of all frames.

    Centroids are fitted on all images of the fitting split, whatever shard or split is labelled. Worker
    processes read or compute the vectors; where a GPU computes them, threads of this process do.

    Raises:
        UserError: missing codes, heads, labels or dense CRF, or a folder with files of another run.
    """
    if settings.crf:
        require_dense_crf()  # now: `skip_bad` would take each image for a bad one
    output = Folder(run.root(source), settings.folder, ".png")
    refuse_earlier_crf(output, run, source, settings.crf_rows)
    stays = len(files_besides(output, reach(source.frames(), run)))
    nothing_to_fit = settings.load_centroids and settings.features == "codes" and not settings.named
    fitting = (source if nothing_to_fit else source.of_split(settings.fit_split)).frames()
    names = [frame.name for frame in fitting]
    fits = Fits(output.directory, run.overwrite, run.run_id, names, stays=stays)
    vectors = vector_source(settings, output.root, fitting, fits)
    fits = replace(fits, source=vectors.fingerprint)
    process = _process(source, settings, vectors.read, fitting, fits, output)
    inputs: list[Path | Folder] = list(vectors.inputs)
    if settings.oracle and source.cityscapes_root is not None:
        inputs.append(source.cityscapes_root / GROUND_TRUTH_FOLDER)
    unknown = False
    if settings.load_centroids is not None:
        inputs.append(settings.load_centroids)
        unknown = is_of_unknown_origin(settings.load_centroids)
    step = Step(
        SCRIPT,
        settings,
        process.in_threads() if vectors.on_gpu else process,
        [output],
        process.show,
        inputs=inputs,
        weights=vectors.weights,
        fits={
            "clusters": array_digest(process.clusters.centroids),
            "names of the clusters": array_digest(process.table),
        },
        uses_ground_truth=settings.oracle or (None if unknown else False),
        newer_than=output.directory / CENTROIDS,
        labels=process.labels,
    )
    return run_step(source, step, run)


def _process(
    source: FrameSource,
    settings: OverclusterSettings,
    read: Reader,
    fitting: Sequence[Frame],
    fits: Fits,
    output: Folder,
) -> LabelClusters:
    """Fit the clusters and find what is written for each."""
    pooled = Pooled(read) if settings.regions else read
    centroids = centroids_for(settings, pooled, fitting, fits)
    clusters = ClusterMap(read, centroids, settings.regions, settings.crf_rows)
    semantics = Folder(output.root, CAUSE_SEMANTICS, ".png")
    table = Naming(settings, fitting, pooled, clusters, semantics, source.cityscapes_root).table(fits)
    labels = LabelKind("trainId", 19) if settings.named else LabelKind("clusters", int(table.max()) + 1)
    return LabelClusters(clusters, table, output, labels)
