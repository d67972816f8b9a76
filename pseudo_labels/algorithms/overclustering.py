"""What overclustering clusters: CAUSE codes, backbone features, or features with their surroundings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from cups.errors import UserError
from cups.io.files import atomic_write, read_npy
from cups.io.locking import made_once
from cups.io.png import image_size, read_ids, read_image
from cups.ops.dense_crf import dense_crf
from cups.ops.kmeans import assign, centroid_scores, fit_kmeans, unit_rows
from cups.ops.regions import Regions, mean_shift_regions
from cups.ops.resize import nearest_indices
from cups.ops.smooth_labels import smooth_labels
from cups.taxonomy import VOID, class27_to_train_id
from pseudo_labels.inputs.labels import CODES_FOLDER
from pseudo_labels.networks.cause_heads import load_cause
from pseudo_labels.steps.step import Folder, Frame, output_root, pick_device

FEATURES = ("codes", "backbone", "context")
FRAMES_PER_BATCH = 16
TEXTONS = 64
CONTEXT_SIGMA = 2.5
"""Reach of the surroundings, in tokens."""
CONTEXT_WEIGHT = 0.7

Reader = Callable[[Frame], np.ndarray]


@dataclass(frozen=True)
class Source:
    """Where the vectors come from: a reader frame -> (h, w, D), and what provenance has to know."""

    read: Reader
    inputs: list[Path]
    weights: list[dict[str, Any]]


def vector_source(args: argparse.Namespace, frames: Sequence[Frame], directory: Path) -> Source:
    """Return the source that `--features` chooses; `context` fits its textons on `frames`.

    Raises:
        UserError: missing codes or heads.
    """
    if args.features == "codes":
        codes = Folder(output_root(args), CODES_FOLDER, ".npy")
        if not codes.directory.is_dir():
            raise UserError(
                f"{codes.directory}: no such folder; run generate_semantic_pseudolabels_cause.py first"
            )
        return Source(lambda frame: unit_rows(read_npy(codes.path(frame), ndim=3)), [codes.directory], [])
    model = load_cause(args, pick_device(args))
    extractor = model.extractor
    if not extractor.backbone.local:
        raise UserError(f"--features {args.features}: only for the texton backbone; use --features codes")

    def read_features(frame: Frame) -> np.ndarray:
        features = extractor.features(extractor.image(frame.image))[0]
        return unit_rows(features.permute(1, 2, 0).cpu().numpy())

    if args.features == "backbone":
        return Source(read_features, [], model.weights)

    def fit() -> np.ndarray:
        tokens = sample_vectors(frames, read_features, args.tokens_per_image, args.seed, "textons")
        return fit_kmeans(shuffled_batches(tokens, args.epochs, args.seed), TEXTONS, args.seed)

    textons = load_or_fit(directory / "textons.npz", fit, {"seed": args.seed}, args)
    return Source(lambda frame: with_context(read_features(frame), textons), [], model.weights)


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


def pooled_reader(read: Reader) -> Reader:
    """Return a reader whose vectors are averaged over regions of even colour, still on the token grid."""

    def pooled(frame: Frame) -> np.ndarray:
        vectors, regions = read(frame), regions_of(frame)
        return regions.mean(vectors)[regions.at_cells(vectors.shape[0], vectors.shape[1])]

    return pooled


def regions_of(frame: Frame) -> Regions:
    """Return the colour regions of a frame."""
    return mean_shift_regions(read_image(frame.image))


def sample_vectors(
    frames: Sequence[Frame], read: Reader, per_image: int, seed: int, name: str
) -> list[np.ndarray]:
    """Return random vectors of each frame: (per_image, D) float16 each.

    Raises:
        UserError: frames whose vectors differ in length.
    """
    generator = np.random.default_rng(seed)
    samples: list[np.ndarray] = []
    for frame in tqdm(frames, desc=name, unit="img"):
        vectors = read(frame)
        vectors = vectors.reshape(-1, vectors.shape[-1])
        if samples and samples[0].shape[1] != vectors.shape[1]:
            raise UserError(
                f"{frame.stem}: codes of {vectors.shape[1]} channels, others of {samples[0].shape[1]}; "
                "generate the codes again"
            )
        chosen = generator.choice(len(vectors), size=min(per_image, len(vectors)), replace=False)
        samples.append(vectors[chosen].astype(np.float16))
    return samples


def shuffled_batches(samples: Sequence[np.ndarray], epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the samples of a few random frames at a time: (N, D) float32, over `epochs` passes."""
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(samples))
        for start in range(0, len(order), FRAMES_PER_BATCH):
            group = order[start : start + FRAMES_PER_BATCH]
            yield np.concatenate([samples[index] for index in group]).astype(np.float32)


def load_or_fit(
    path: Path, fit: Callable[[], np.ndarray], settings: dict[str, Any], args: argparse.Namespace
) -> np.ndarray:
    """Load centroids made with the same settings, or fit and save them; of several shards one does.

    Raises:
        UserError: the file was made with other settings.
    """
    with made_once(path, args.run_id, keep=not args.overwrite) as needed:
        if needed:
            centroids = fit()
            atomic_write(path, lambda temporary: np.savez(temporary, centroids=centroids, **settings))
            return centroids
    with np.load(path, allow_pickle=False) as stored:
        found = {key: stored[key].item() for key in settings if key in stored}
        centroids = stored["centroids"]
    if found != settings:
        raise UserError(f"{path}: made with {found}, not {settings}; add --overwrite, or remove the folder")
    return centroids


CRF_SHARPNESS = 10.0
"""Factor on the centroid scores before the softmax that the CRF starts from."""


def cluster_map(read: Reader, centroids: np.ndarray, regions: bool, crf: bool) -> Reader:
    """Return the function frame -> (H, W) int64 cluster ids at image size."""

    def labels_of(frame: Frame) -> np.ndarray:
        vectors = read(frame)
        if vectors.shape[2] != centroids.shape[1]:
            raise UserError(
                f"{frame.stem}: codes of {vectors.shape[2]} channels, clusters of {centroids.shape[1]}; "
                "add --overwrite to fit again"
            )
        if regions:
            parts = regions_of(frame)
            return parts.spread(assign(parts.mean(vectors), centroids))
        scores = torch.from_numpy(centroid_scores(vectors, centroids))
        if not crf:
            return smooth_labels(scores, image_size(frame.image)).numpy()
        image = read_image(frame.image)
        full = F.interpolate(scores.permute(2, 0, 1)[None], size=image.shape[:2], mode="bilinear")[0]
        return dense_crf(image, F.log_softmax(CRF_SHARPNESS * full, dim=0).numpy())

    return labels_of


def cause_table(frames: Sequence[Frame], read: Reader, centroids: np.ndarray, semantic: Folder) -> np.ndarray:
    """Return the trainId of the CAUSE class that each cluster overlaps most: (K,) uint8, label-free.

    Only heads whose probe rows stand in the order of the 27 classes give meaningful names here.
    """
    semantic.require(frames, "run generate_semantic_pseudolabels_cause.py for this split first")
    votes = np.zeros((len(centroids), 27), dtype=np.int64)
    for frame in tqdm(frames, desc="mapping by CAUSE", unit="img"):
        clusters, classes = assign(read(frame), centroids), read_ids(semantic.path(frame))
        rows, columns = (
            nearest_indices(side, cells).numpy()
            for side, cells in zip(classes.shape, clusters.shape, strict=True)
        )
        classes = classes[rows[:, None], columns].astype(np.int64)
        known = classes < 27
        np.add.at(votes, (clusters[known], classes[known]), 1)
    return np.where(votes.any(axis=1), class27_to_train_id()[votes.argmax(axis=1)], VOID).astype(np.uint8)
