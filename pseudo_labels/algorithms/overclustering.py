"""Overclustering: k-means on vectors of image cells, the cluster of each pixel, names for clusters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from tqdm import tqdm

from cups.errors import UserError
from cups.io.files import atomic_write, read_npz
from cups.io.locking import made_once
from cups.io.png import image_size, read_ids, read_image
from cups.ops.kmeans import assign, centroid_scores
from cups.ops.regions import METHOD, Regions, even_regions
from cups.ops.smooth_labels import smooth_label_map
from cups.taxonomy import VOID, class27_to_train_id
from pseudo_labels.inputs.cluster_names import ClusterNames, read_names
from pseudo_labels.steps.frames import Folder, Frame
from pseudo_labels.steps.resume import MIXED, count_images
from pseudo_labels.steps.workers import run_map

log = logging.getLogger(__name__)
FRAMES_PER_BATCH = 16
CONTEXT_SIGMA = 2.5
"""Reach of the surroundings, in tokens."""
CONTEXT_WEIGHT = 0.7
CRF_SHARPNESS = 10.0
"""Factor on the centroid scores before the softmax that the CRF starts from."""


class Reader(Protocol):
    """Reads the vectors of frames; it can be sent to a worker process."""

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the vectors of a frame, (h, w, D) float32."""
        ...

    def cells(self, frame: Frame) -> int:
        """Return h * w of a frame, without reading what decides only D."""
        ...


def with_context(vectors: np.ndarray, textons: np.ndarray) -> np.ndarray:
    """Append to each vector which textons lie around it: (h, w, D) -> (h, w, D + number of textons).

    The histogram of nearest textons, weighted by a Gaussian (Malik et al., IJCV 2001), as square roots, which
    make Euclidean distance the Hellinger distance.
    """
    one_hot = np.eye(len(textons), dtype=np.float32)[assign(vectors, textons)]
    blurred = [
        cv2.GaussianBlur(one_hot[..., i], (0, 0), CONTEXT_SIGMA, borderType=cv2.BORDER_REPLICATE)
        for i in range(len(textons))
    ]
    return np.concatenate((vectors, CONTEXT_WEIGHT * np.sqrt(np.stack(blurred, axis=2))), axis=2)


def regions_of(frame: Frame) -> Regions:
    """Return the colour regions of a frame."""
    return even_regions(read_image(frame.image))


def kind_of_regions(regions: bool) -> dict[str, str]:
    """Return what fitted clusters record of the regions: those of version 0.2 were found otherwise."""
    return {"regions": METHOD} if regions else {}


@dataclass(frozen=True, eq=False)
class Sampling:
    """Picklable function (frame, cells that were drawn) -> their vectors, (n, D) float16."""

    read: Reader

    def __call__(self, drawn: tuple[Frame, np.ndarray]) -> np.ndarray:
        """Return the vectors of some cells of a frame."""
        frame, cells = drawn
        vectors = self.read(frame)
        return vectors.reshape(-1, vectors.shape[-1])[cells].astype(np.float16)


def sample_vectors(
    frames: Sequence[Frame], read: Reader, per_image: int, seed: int, name: str, workers: int = 0
) -> list[np.ndarray]:
    """Return random vectors of each frame: (per_image, D) float16 each.

    workers: processes that read; what is drawn does not depend on them.

    Raises:
        UserError: frames whose vectors differ in length.
    """
    generator = np.random.default_rng(seed)

    def drawn() -> Iterator[tuple[Frame, np.ndarray]]:
        for frame in frames:
            count = read.cells(frame)
            yield frame, generator.choice(count, size=min(per_image, count), replace=False)

    samples: list[np.ndarray] = []
    results = run_map(drawn(), Sampling(read), workers)
    with closing(results):
        for frame, vectors in zip(frames, tqdm(results, name, len(frames), unit="img"), strict=True):
            if samples and samples[0].shape[1] != vectors.shape[1]:
                raise UserError(
                    f"{frame.stem}: codes of {vectors.shape[1]} channels, others of {samples[0].shape[1]}; "
                    "generate the codes again"
                )
            samples.append(vectors)
    return samples


def shuffled_batches(samples: Sequence[np.ndarray], epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the samples of a few random frames at a time: (N, D) float32, over `epochs` passes."""
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(samples))
        for start in range(0, len(order), FRAMES_PER_BATCH):
            group = order[start : start + FRAMES_PER_BATCH]
            yield np.concatenate([samples[index] for index in group]).astype(np.float32)


@dataclass(frozen=True)
class Fits:
    """A folder that keeps what was fitted, for later runs and for the other shards of this one.

    Attributes:
        overwrite: fit again, whatever an earlier run left.
        run_id: what the shards of one run have in common; None where there are none.
        frames: names of the images that are fitted on.
        source: fingerprint of the vectors that are fitted on.
        stays: number of the folder's files that this run does not write, even with `overwrite`.
    """

    folder: Path
    overwrite: bool = False
    run_id: str | None = None
    frames: Sequence[str] = ()
    source: str = ""
    stays: int = 0

    def load_or_fit(
        self, name: str, fit: Callable[[], np.ndarray], settings: Mapping[str, Any]
    ) -> np.ndarray:
        """Load centroids made with the same settings, or fit and save them; of several shards one does.

        Those of all images serve a part of these too, never the other way round.

        Raises:
            UserError: the file was made with other settings, from other vectors, or of other images.
        """
        path = self.folder / name
        with made_once(path, self.run_id, keep=not self.overwrite) as needed:
            if needed:
                centroids = fit()
                if self._is_same(path, centroids):
                    return centroids
                origin = {"frames": np.array(self.frames, dtype=np.str_), "source": self.source}
                content = {"centroids": centroids, **settings, **origin}
                atomic_write(path, lambda temporary: np.savez(temporary, **content))
                return centroids
        stored = read_npz(path, ["centroids"], [*settings, "source", "frames"])
        found = {key: stored[key].item() for key in settings if key in stored}
        centroids = stored["centroids"]
        source = stored["source"].item() if "source" in stored else None
        frames = stored["frames"].tolist() if "frames" in stored else None
        if found != settings:
            raise UserError(
                f"{path}: made with {found}, not {settings}; add `overwrite`, or remove the folder"
            )
        self._check_origin(path, source, frames)
        return centroids

    def _is_same(self, path: Path, centroids: np.ndarray) -> bool:
        """Return whether `path` holds these centroids, made of the same; it then keeps its date.

        Raises:
            UserError: it holds others, and files that they gave would stay.
        """
        if not path.is_file():
            return False
        try:
            stored = read_npz(path, ["centroids"], ["source", "frames"])
        except UserError:
            if self.stays:
                raise
            return False  # damaged: it is written anew
        equal = np.array_equal(stored["centroids"], centroids)
        frames = stored["frames"].tolist() if "frames" in stored else None
        same_origin = frames == list(self.frames) and stored["source"].item() == self.source
        if not equal:
            self._refuse_mixture(path)
        return equal and same_origin

    def _refuse_mixture(self, path: Path) -> None:
        if self.stays:
            raise UserError(f"{path}: {self.stays} files made with it are of images not in this run; {MIXED}")

    def _check_origin(self, path: Path, source: str | None, frames: Sequence[str] | None) -> None:
        """Raise a `UserError` if centroids were fitted on other vectors or images than these."""
        if source is None or frames is None:
            log.warning("%s: of version 0.2.0, does not tell which images it was fitted on; taken", path)
            return
        if source != self.source:
            raise UserError(f"{path}: fitted on other vectors, which were made anew since; add `overwrite`")
        missing = sorted(set(self.frames) - set(frames))
        if missing:
            raise UserError(
                f"{path}: fitted on {count_images(len(frames))}, without {len(missing)} of the "
                f"{len(self.frames)} of this run ({missing[0]} ...); add `overwrite`"
            )

    def keep_names(self, name: str, find: Callable[[], ClusterNames]) -> np.ndarray:
        """Find the names of the clusters and save them; of several shards one does. Returns them, (K,) uint8.

        Raises:
            UserError: an earlier run, whose files may stay, gave the clusters other names.
        """
        path = self.folder / name
        with made_once(path, self.run_id, keep=False) as needed:
            if not needed:
                return read_names(path).table
            names = find()
            if path.is_file() and not np.array_equal(read_names(path).table, names.table):
                if not self.overwrite:
                    raise UserError(f"{path}: the clusters had other names when it was made; add `overwrite`")
                self._refuse_mixture(path)
            names.write(path)
            return names.table


@dataclass(frozen=True, eq=False)
class ClusterMap:
    """Function frame -> (H, W) int64 cluster ids at image size; it can be sent to a worker process.

    Attributes:
        read: frame -> (h, w, D) vectors.
        centroids: (k, D) float32.
        regions: label whole regions of even colour.
        crf: image height inside a dense CRF that refines along edges, 0: native; None: no CRF.
    """

    read: Reader
    centroids: np.ndarray
    regions: bool = False
    crf: int | None = None

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the cluster ids of one frame.

        Raises:
            UserError: vectors of another length than the centroids.
        """
        vectors = self.read(frame)
        check_channels(frame, vectors, self.centroids)
        if self.regions:
            parts = regions_of(frame)
            return parts.spread(assign(parts.mean(vectors), self.centroids))
        scores = centroid_scores(vectors, self.centroids)
        if self.crf is None:
            return smooth_label_map(scores, image_size(frame.image))
        import torch  # here: without it a step on stored codes starts twice as fast

        from cups.ops.dense_crf import refined_labels

        return refined_labels(torch.from_numpy(scores), read_image(frame.image), CRF_SHARPNESS, self.crf)


def check_channels(frame: Frame, vectors: np.ndarray, centroids: np.ndarray) -> None:
    """Raise a `UserError` if vectors (..., D) of a frame do not fit the centroids (k, D)."""
    if vectors.shape[-1] != centroids.shape[1]:
        raise UserError(
            f"{frame.stem}: codes of {vectors.shape[-1]} channels, clusters of {centroids.shape[1]}; "
            "add `overwrite` to fit again"
        )


@dataclass(frozen=True, eq=False)
class CauseVotes:
    """Picklable function frame -> (K, 27) int64, cells of each cluster in each class of the CAUSE labels."""

    read: Reader
    centroids: np.ndarray
    semantic: Folder

    def __call__(self, frame: Frame) -> np.ndarray:
        """Count one frame."""
        from cups.ops.resize import nearest_indices

        votes = np.zeros((len(self.centroids), 27), dtype=np.int64)
        clusters, classes = assign(self.read(frame), self.centroids), read_ids(self.semantic.path(frame))
        rows, columns = (
            nearest_indices(side, cells).numpy()
            for side, cells in zip(classes.shape, clusters.shape, strict=True)
        )
        classes = classes[rows[:, None], columns].astype(np.int64)
        known = classes < 27
        np.add.at(votes, (clusters[known], classes[known]), 1)
        return votes


def cause_table(
    frames: Sequence[Frame], read: Reader, centroids: np.ndarray, semantic: Folder, workers: int = 0
) -> np.ndarray:
    """Return the trainId of the CAUSE class that each cluster overlaps most: (K,) uint8, label-free.

    The maps must hold classes: rows of a probe without an order would give arbitrary names.
    """
    semantic.require(frames, "run generate_semantic_pseudolabels_cause.py for this split first")
    votes = np.zeros((len(centroids), 27), dtype=np.int64)
    with closing(run_map(frames, CauseVotes(read, centroids, semantic), workers)) as counted:
        for one in tqdm(counted, "mapping by CAUSE", len(frames), unit="img"):
            votes += one
    return np.where(votes.any(axis=1), class27_to_train_id()[votes.argmax(axis=1)], VOID).astype(np.uint8)
