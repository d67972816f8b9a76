"""Overclustered semantics: k-means on vectors of the fitting split, k pseudo-classes for every image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cups.errors import UserError, as_flags
from cups.io.files import file_sha256
from cups.io.fingerprint import array_digest
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import IDENTITY
from cups.ops.kmeans import fit_kmeans, merge_centroids
from cups.taxonomy import id_dtype
from pseudo_labels.algorithms.overclustering import (
    ClusterMap,
    Fits,
    Reader,
    cause_table,
    kind_of_regions,
    sample_vectors,
    shuffled_batches,
)
from pseudo_labels.inputs.centroids import read_centroids
from pseudo_labels.inputs.class_order import class_order
from pseudo_labels.inputs.cluster_names import (
    CENTROIDS,
    ClusterNames,
    digest_of,
    names_file,
    names_of,
    read_names,
    require_number,
    require_same_clusters,
)
from pseudo_labels.networks.vectors import Pooled, vector_source
from pseudo_labels.settings.overclusters import OverclusterSettings
from pseudo_labels.steps.earlier import refuse_earlier_crf
from pseudo_labels.steps.folders import CAUSE_SEMANTICS, raw_semantics
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind, label_kind
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.resume import files_besides, reach
from pseudo_labels.steps.step import Step, Summary, run_step, writers
from pseudo_labels.steps.workers import Batched

if TYPE_CHECKING:
    from torch import Tensor

SCRIPT = "generate_overclustered_semantics"

log = logging.getLogger(__name__)


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
        import torch

        def load(frame: Frame) -> tuple[Tensor, None]:
            return torch.empty(0), None

        def compute(batch: Tensor, _: Sequence[Any]) -> list[None]:
            return [None] * len(batch)

        return Batched(load, compute, lambda frame, _: self(frame))


def centroids_for(
    settings: OverclusterSettings, read: Reader, frames: Sequence[Frame], fits: Fits, workers: int = 0
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
        samples = sample_vectors(frames, read, settings.tokens_per_image, settings.seed, "vectors", workers)
        return fit_kmeans(
            shuffled_batches(samples, settings.epochs, settings.seed), settings.k, settings.seed
        )

    names = ("k", "seed", "features", "regions", "fit_split", "epochs", "tokens_per_image")
    fitted = {name: getattr(settings, name) for name in names}
    return fits.load_or_fit(CENTROIDS, fit, fitted | kind_of_regions(settings.regions))


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
        workers: processes that count.
    """

    settings: OverclusterSettings
    frames: Sequence[Frame]
    read: Reader
    clusters: ClusterMap
    semantics: Folder
    cityscapes_root: Path | None
    workers: int = 0

    def table(self, output: Fits) -> np.ndarray:
        """Return the value of each cluster: (K,) uint8, or uint16 above 254 classes.

        Names that are found here are kept in the output folder.
        """
        settings = self.settings
        if not settings.named:
            groups = np.arange(settings.k)
            if settings.merge_to is not None:
                groups = merge_centroids(self.clusters.centroids, settings.merge_to)
            return groups.astype(id_dtype(int(groups.max()) + 1))
        if settings.names is not None:
            return self.names().table
        return output.keep_names(names_file(str(settings.mapping)), self.names)

    def names(self) -> ClusterNames:
        """Return the names: of the file, or as `mapping` finds them."""
        settings, centroids = self.settings, self.clusters.centroids
        if settings.names is not None:
            names = read_names(settings.names)
            require_same_clusters(settings.names, names, centroids)
            return names
        digest = digest_of(centroids)
        if settings.mapping == "cause":
            table = cause_table(self.frames, self.read, centroids, self.semantics, self.workers)
            return names_of(table, digest, "the CAUSE class that each cluster overlaps most", None)
        assert self.cityscapes_root is not None
        from pseudo_labels.scoring.oracle_mapping import oracle_table

        table = oracle_table(self.frames, self.clusters, settings.k, self.cityscapes_root, self.workers)
        return names_of(table, digest, f"ground truth of {settings.fit_split}, by majority of pixels")


def check_source_of_names(settings: OverclusterSettings, source: FrameSource, root: Path) -> None:
    """Refuse names that cannot be found, before anything is computed.

    Raises:
        UserError: no ground truth, CAUSE labels whose numbers name nothing, or an unreadable file.
    """
    if settings.names is not None:
        require_number(settings.names, read_names(settings.names), settings.k)
    if settings.oracle and source.cityscapes_root is None:
        raise UserError("`mapping` oracle: needs `cityscapes_root` with ground truth; use `raw`")
    if settings.mapping == "cause":
        from pseudo_labels.networks.cause_heads import SETTINGS, heads_folder

        heads, semantics = heads_folder(settings, root), root / CAUSE_SEMANTICS
        if class_order(heads / SETTINGS) is None:
            raise UserError(
                f"`mapping` cause: the heads in {heads} do not say which row of their probe is which class, "
                "so its numbers name nothing; leave `mapping` out (training takes clusters without names)"
            )
        if (kind := label_kind(semantics)) is not None and kind.kind != "cause27":
            raise UserError(
                f"{semantics}: was made before its heads had an order of classes; run "
                "generate_semantic_pseudolabels_cause.py with `overwrite`"
            )


def names_entry(path: Path) -> dict[str, Any]:
    """Return the entry of a file of names in a list of weights: its content decides, and tells its source."""
    digest = {path.name: file_sha256(path)}
    return {"name": str(path), "uses_ground_truth": read_names(path).uses_ground_truth, IDENTITY: digest}


def fits_of(own: Fits, output: Folder, settings: OverclusterSettings) -> Fits:
    """Return the folder of the clustering: the output's own, or that of the same clusters without names.

    So names are given to the very clusters that were scored.
    """
    raw = output.root / raw_semantics(settings.k)
    there = (own.folder / CENTROIDS).is_file()
    if settings.named and not there and not own.overwrite and (raw / CENTROIDS).is_file():
        log.info("%s: its clusters are named", raw)
        return replace(own, folder=raw, stays=0)
    return own


def make_overclusters(source: FrameSource, settings: OverclusterSettings, run: FrameRun) -> Summary:
    """Write the clusters, or their names, of all frames.

    Centroids are fitted on all images of the fitting split, whatever shard or split is labelled. Worker
    processes read or compute the vectors, to fit, to name and to label; where a GPU computes them, threads of
    this process do. The files are the same for any number of workers.

    Raises:
        UserError: missing codes, heads, labels or dense CRF, names of other clusters, CAUSE labels whose
            numbers name nothing, or a folder with files of another run.
    """
    if settings.crf:
        from cups.ops.dense_crf import require_dense_crf

        require_dense_crf()  # now: `skip_bad` would take each image for a bad one
    output = Folder(run.root(source), settings.folder, ".png")
    refuse_earlier_crf(output, run, source, settings.crf_rows)
    check_source_of_names(settings, source, output.root)
    log.info("%s", as_flags(settings.summary()))
    # From here on: the clusters that are fitted now must be those that all frames get.
    with writers([output.directory], SCRIPT, settings.recorded):
        return _make(source, settings, run, output)


def _make(source: FrameSource, settings: OverclusterSettings, run: FrameRun, output: Folder) -> Summary:
    nothing_to_fit = settings.load_centroids and settings.features == "codes" and not settings.named
    fitting = (source if nothing_to_fit else source.of_split(settings.fit_split)).frames()
    stays = len(files_besides(output, reach(source.frames(), run)))
    names = [frame.name for frame in fitting]
    own = Fits(output.directory, run.overwrite, run.run_id, names, stays=stays)
    fits = fits_of(own, output, settings)
    vectors = vector_source(settings, output.root, fitting, fits, run.num_workers)
    fits = replace(fits, source=vectors.fingerprint)
    workers = vectors.processes(run.num_workers)
    process = _process(source, settings, vectors.read, fitting, (own, fits), output, workers)
    inputs: list[Path | Folder] = list(vectors.inputs)
    if settings.oracle and source.cityscapes_root is not None:
        from pseudo_labels.scoring.oracle_mapping import GROUND_TRUTH_FOLDER

        inputs.append(source.cityscapes_root / GROUND_TRUTH_FOLDER)
    if settings.load_centroids is not None:
        inputs.append(settings.load_centroids)
    if settings.mapping == "cause":
        inputs.append(output.root / CAUSE_SEMANTICS)
    weights = [*vectors.weights, *([] if settings.names is None else [names_entry(settings.names)])]
    step = Step(
        SCRIPT,
        settings.recorded,
        process.in_threads() if vectors.on_gpu else process,
        [output],
        process.show,
        inputs=inputs,
        weights=weights,
        fits={
            "clusters": array_digest(process.clusters.centroids),
            "names of the clusters": array_digest(process.table),
        },
        uses_ground_truth=settings.oracle,
        newer_than=fits.folder / CENTROIDS,
        labels=process.labels,
    )
    return run_step(source, step, run)


def _process(
    source: FrameSource,
    settings: OverclusterSettings,
    read: Reader,
    fitting: Sequence[Frame],
    folders: tuple[Fits, Fits],
    output: Folder,
    workers: int,
) -> LabelClusters:
    """Fit the clusters and find what is written for each.

    folders: where names are kept, and where the clustering is.
    """
    own, fits = folders
    pooled = Pooled(read) if settings.regions else read
    centroids = centroids_for(settings, pooled, fitting, fits, workers)
    clusters = ClusterMap(read, centroids, settings.regions, settings.crf_rows)
    semantics = Folder(output.root, CAUSE_SEMANTICS, ".png")
    naming = Naming(settings, fitting, pooled, clusters, semantics, source.cityscapes_root, workers)
    table = naming.table(own)
    labels = LabelKind("trainId", 19) if settings.named else LabelKind("clusters", int(table.max()) + 1)
    return LabelClusters(clusters, table, output, labels)
