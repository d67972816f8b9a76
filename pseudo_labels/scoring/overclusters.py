"""How good are k clusters? Pixels of clusters against classes for many k in one pass, and what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from cups.data.cityscapes import ground_truth_paths
from cups.errors import UserError
from cups.io.files import atomic_write, read_npz
from cups.io.png import read_ids
from cups.metrics import semantic_quality
from cups.metrics.protocol import Matching
from cups.ops.kmeans import centroid_scores, unit_rows
from cups.ops.smooth_labels import smooth_labels
from cups.taxonomy import FIRST_EVALUATED_ID, VOID, ClassSet, class_set, void_value
from pseudo_labels.algorithms.overclustering import Reader, check_channels, regions_of
from pseudo_labels.scoring.semantic import MATCHERS, count_pixels, named_classes
from pseudo_labels.steps.frames import Frame

SAVE_EVERY = 100
"""Frames between two savings of the tallies: what a killed run has to count again."""
ALL_CLASSES = 27
"""Pixels are counted against the 27 classes; the 19 and the 7 are sums of these."""


@dataclass
class Tally:
    """Pixels of k clusters against the 27 classes, over the frames counted so far.

    Attributes:
        counts: (k + 1, 27) int64, row k for pixels without a cluster.
        distance: sum over tokens of the squared distance to the nearest centroid.
        tokens: number of tokens.
        frames: number of frames, in the order of the list.
        fingerprint: of centroids and frames.
    """

    counts: np.ndarray
    distance: float = 0.0
    tokens: int = 0
    frames: int = 0
    fingerprint: str = ""

    @property
    def inertia(self) -> float:
        """Mean squared distance of tokens (unit vectors) to their centroid; nan without tokens."""
        return self.distance / self.tokens if self.tokens else float("nan")

    def save(self, path: Path) -> None:
        """Write the tally, atomically."""
        atomic_write(path, lambda temporary: np.savez(temporary, **vars(self)))


def load_tally(path: Path, k: int, fingerprint: str) -> Tally:
    """Return the tally of an earlier run over the same centroids and frames, or an empty one."""
    empty = Tally(np.zeros((k + 1, ALL_CLASSES), dtype=np.int64), fingerprint=fingerprint)
    if not path.is_file():
        return empty
    try:
        stored = read_npz(path, [item.name for item in fields(Tally)])
        tally = Tally(
            stored["counts"],
            float(stored["distance"]),
            int(stored["tokens"]),
            int(stored["frames"]),
            str(stored["fingerprint"]),
        )
    except (UserError, TypeError, ValueError):
        return empty
    return tally if tally.fingerprint == fingerprint else empty


def fingerprint_of(centroids: np.ndarray, frames: Sequence[Frame], regions: bool) -> str:
    """Return a hash of what a tally depends on."""
    text = "\n".join([str(regions), *(str(frame.relative / frame.stem) for frame in frames)])
    return hashlib.sha256(np.ascontiguousarray(centroids).tobytes() + text.encode()).hexdigest()


def count_frame(
    frame: Frame, read: Reader, sets: Mapping[int, np.ndarray], root: Path, regions: bool
) -> dict[int, Tally]:
    """Count one frame for several k; its vectors are read once.

    Args:
        read: frame -> (h, w, D) vectors.
        sets: {k: (k, D) centroids}.
        root: Cityscapes root with gtFine.
        regions: label whole regions of even colour, as `generate_overclustered_semantics.py` can.
    """
    split, city = frame.relative.parts[:2]
    label_ids, _ = ground_truth_paths(root, split, city, frame.stem)
    target = class_set(ALL_CLASSES).from_id[read_ids(label_ids).astype(np.uint8)].astype(np.int64)
    size = (target.shape[0], target.shape[1])
    cells = read(frame)
    parts = regions_of(frame) if regions else None
    if parts is not None and parts.ids.shape != size:
        raise UserError(
            f"{label_ids}: size {size} is not the image's, {parts.ids.shape}; unpack gtFine again"
        )
    vectors = unit_rows(cells if parts is None else parts.mean(cells))
    tallies = {}
    for k, centroids in sets.items():
        check_channels(frame, vectors, centroids)
        scores = centroid_scores(vectors, centroids)
        clusters = (
            smooth_labels(torch.from_numpy(scores), size).numpy()
            if parts is None
            else parts.spread(scores.argmax(axis=1))
        )
        void = void_value(k)
        truth = np.where(target == VOID, void, target)
        best = scores.max(axis=-1)
        squared = np.square(vectors).sum(axis=-1) - 2 * best
        tallies[k] = Tally(
            count_pixels(clusters, truth, k, ALL_CLASSES, void), float(squared.sum()), best.size, frames=1
        )
    return tallies


def count_clusters(
    frames: Sequence[Frame],
    read: Reader,
    sets: Mapping[int, np.ndarray],
    path_of: Callable[[int], Path],
    root: Path,
    *,
    regions: bool = False,
    workers: int = 1,
) -> dict[int, Tally]:
    """Count all frames for every k in one pass; resumes after a kill, and keeps what is counted already.

    Args:
        path_of: k -> file of its tally.
        workers: threads; matrix products and look-ups run outside Python's lock.
        others: see `count_frame`.
    """
    tallies = {
        k: load_tally(path_of(k), k, fingerprint_of(centroids, frames, regions))
        for k, centroids in sets.items()
    }
    done = {k: tally.frames for k, tally in tallies.items()}

    def work(index: int) -> dict[int, Tally]:
        open_sets = {k: sets[k] for k in sets if done[k] <= index}
        return count_frame(frames[index], read, open_sets, root, regions)

    start = min(done.values(), default=len(frames))
    # One core per frame: libraries that start threads of their own inside each would fight for the cores.
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(max(1, workers), initializer=torch.set_num_threads, initargs=(1,))
    with threadpool_limits(1, user_api="blas"), pool:
        for first in range(start, len(frames), SAVE_EVERY):
            chunk = range(first, min(first + SAVE_EVERY, len(frames)))
            for part in tqdm(pool.map(work, chunk), total=len(chunk), desc=f"count {first}+", unit="img"):
                for k, one in part.items():
                    _add(tallies[k], one)
            for k, tally in tallies.items():
                tally.save(path_of(k))
    torch.set_num_threads(threads)
    return tallies


def _add(tally: Tally, one: Tally) -> None:
    tally.counts += one.counts
    tally.distance += one.distance
    tally.tokens += one.tokens
    tally.frames += one.frames


def collapse(counts: np.ndarray, classes: ClassSet) -> np.ndarray:
    """Sum columns: (K + 1, 27) counts -> (K + 1, C); pixels of classes that the set ignores drop out."""
    column = classes.from_id[np.arange(ALL_CLASSES) + FIRST_EVALUATED_ID].astype(np.int64)
    known = column != VOID
    summed = np.zeros((len(counts), classes.num_classes), dtype=np.int64)
    np.add.at(summed.T, column[known], counts[:, known].T)
    return summed


def purity(counts: np.ndarray) -> tuple[float, float]:
    """Return the share of its most frequent class in a cluster: mean over clusters, and weighted by pixels.

    counts: (K, C). Clusters without a labelled pixel do not count; nan when there is none at all. The
    weighted purity is the accuracy of the many-to-one matching (Manning et al., 2008, section 16.3).
    """
    pixels = counts.sum(axis=1)
    used = pixels > 0
    if not used.any():
        return float("nan"), float("nan")
    largest = counts.max(axis=1)
    return float((largest[used] / pixels[used]).mean()), float(largest.sum() / pixels.sum())


@dataclass(frozen=True)
class ClusterScore:
    """What k clusters are worth.

    Attributes:
        name: row of the table.
        k: clusters; `used` of them have a labelled pixel.
        miou: {images that the matching was fitted on: {matching: 0-1}}.
        iou: {images: {matching: {class: 0-1}}}, classes that occur in the images scored.
        recovered: classes with an IoU above the threshold, many-to-one, matching of the last images.
        purity, purity_weighted: see `purity`.
        inertia: see `Tally.inertia`; nan for labels that are no k-means clusters.
    """

    name: str
    k: int
    used: int
    miou: dict[str, dict[str, float]]
    iou: dict[str, dict[str, dict[str, float]]]
    recovered: tuple[str, ...]
    purity: float
    purity_weighted: float
    inertia: float = field(default=float("nan"))


def score_clusters(
    name: str,
    counts: np.ndarray,
    fits: Mapping[str, np.ndarray],
    classes: ClassSet,
    threshold: float,
    inertia: float = float("nan"),
    named: bool = False,
) -> ClusterScore:
    """Score clusters.

    Args:
        counts: (K + 1, 27) of the images scored.
        fits: {name: (K + 1, 27)} of the images that matchings are fitted on.
        threshold: IoU from which a class counts as recovered.
        named: the clusters are the 27 classes, and also scored by their names.
    """
    scored = collapse(counts, classes)
    present = np.flatnonzero(scored.sum(axis=0))
    miou: dict[str, dict[str, float]] = {}
    iou: dict[str, dict[str, dict[str, float]]] = {}
    for images, fitted in fits.items():
        matrix = collapse(fitted, classes)[:-1]
        chosen: dict[Matching, np.ndarray] = {key: match(matrix) for key, match in MATCHERS.items()}
        if named:
            chosen["named"] = named_classes(ALL_CLASSES, classes)
        quality = {key: semantic_quality(scored, assignment) for key, assignment in chosen.items()}
        miou[images] = {key: value.miou for key, value in quality.items()}
        iou[images] = {
            key: {classes.names[index]: float(value.iou_per_class[index]) for index in present}
            for key, value in quality.items()
        }
    last = iou[list(fits)[-1]]["many-to-one"]
    mean, weighted = purity(scored[:-1])
    return ClusterScore(
        name,
        len(counts) - 1,
        int((scored[:-1].sum(axis=1) > 0).sum()),
        miou,
        iou,
        tuple(class_name for class_name, value in last.items() if value > threshold),
        mean,
        weighted,
        inertia,
    )
