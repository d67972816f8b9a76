"""What overclustering clusters: CAUSE codes, backbone features, or features with their surroundings.

All readers are functions frame -> (h, w, D) float32 that can be sent to worker processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import UserError
from cups.io.files import read_npy
from cups.io.fingerprint import array_digest, recipe_fingerprint
from cups.io.provenance import describe_input
from cups.ops.kmeans import fit_kmeans, unit_rows
from pseudo_labels.algorithms.overclustering import (
    Fits,
    Reader,
    regions_of,
    sample_vectors,
    shuffled_batches,
    with_context,
)
from pseudo_labels.networks.cause_codes import FeatureExtractor
from pseudo_labels.networks.cause_heads import heads_folder, load_cause
from pseudo_labels.settings.overclusters import Clustering
from pseudo_labels.steps.folders import CODES_FOLDER
from pseudo_labels.steps.frames import Folder, Frame, input_paths

TEXTONS = 64


@dataclass(frozen=True)
class VectorSource:
    """Where the vectors come from.

    Attributes:
        read: frame -> (h, w, D) vectors.
        inputs, weights: what provenance has to know.
        textons: digest of the textons of vectors in context.
        on_gpu: a network on a GPU computes them; worker processes would each need a copy there.
    """

    read: Reader
    inputs: tuple[Path | Folder, ...] = ()
    weights: tuple[dict[str, Any], ...] = ()
    on_gpu: bool = False
    textons: str = ""

    @property
    def fingerprint(self) -> str:
        """What the vectors are made of: recipes of the inputs, content of weights and textons."""
        inputs = [describe_input(path) for path in input_paths(self.inputs)]
        settings = {"textons": self.textons}
        return recipe_fingerprint({"script": "vectors", "inputs": inputs, "weights": self.weights}, settings)


@dataclass(frozen=True)
class StoredCodes:
    """Reads unit codes from files."""

    folder: Folder

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the codes of one frame."""
        return unit_rows(read_npy(self.folder.path(frame), ndim=3))


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Computes unit features of a whole image by a backbone without attention."""

    extractor: FeatureExtractor

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the features of one frame."""
        features = self.extractor.features(self.extractor.image(frame.image))[0]
        return unit_rows(features.permute(1, 2, 0).cpu().numpy())


@dataclass(frozen=True, eq=False)
class InContext:
    """Appends to each vector which textons (T, D) lie around it."""

    read: Reader
    textons: np.ndarray

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the vectors of one frame: (h, w, D + T)."""
        return with_context(self.read(frame), self.textons)


@dataclass(frozen=True, eq=False)
class Pooled:
    """Averages vectors over regions of even colour, still on the grid of cells."""

    read: Reader

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the vectors of one frame."""
        vectors, regions = self.read(frame), regions_of(frame)
        return regions.mean(vectors)[regions.at_cells(vectors.shape[0], vectors.shape[1])]


def vector_source(settings: Clustering, root: Path, frames: Sequence[Frame], fits: Fits) -> VectorSource:
    """Return the source that `features` chooses; `context` fits its textons on `frames`.

    root: under which the codes, and heads of the texton backbone, are.

    Raises:
        UserError: missing codes or heads, or features of a backbone with attention.
    """
    if settings.features == "codes":
        codes = Folder(root, CODES_FOLDER, ".npy")
        if not codes.directory.is_dir():
            raise UserError(
                f"{codes.directory}: no such folder; run generate_semantic_pseudolabels_cause.py first"
            )
        return VectorSource(StoredCodes(codes), (codes,))
    model = load_cause(settings, heads_folder(settings, root))
    if not model.extractor.backbone.local:
        raise UserError(f"`features` {settings.features}: only for the texton backbone; use `features` codes")
    read: Reader = LocalFeatures(model.extractor)
    source = VectorSource(read, (), tuple(model.weights), model.extractor.device.type != "cpu")
    if settings.features == "context":
        textons = textons_for(settings, read, frames, replace(fits, source=source.fingerprint))
        source = replace(source, read=InContext(read, textons), textons=array_digest(textons))
    return source


def textons_for(settings: Clustering, read: Reader, frames: Sequence[Frame], fits: Fits) -> np.ndarray:
    """Load or fit the textons: (T, D) float32 centroids of features."""

    def fit() -> np.ndarray:
        tokens = sample_vectors(frames, read, settings.tokens_per_image, settings.seed, "textons")
        return fit_kmeans(shuffled_batches(tokens, settings.epochs, settings.seed), TEXTONS, settings.seed)

    return fits.load_or_fit("textons.npz", fit, {"seed": settings.seed})
