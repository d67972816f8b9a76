"""What overclustering clusters: codes or any features on disk, a backbone's, or these with surroundings.

All readers are functions frame -> (h, w, D) float32 that can be sent to worker processes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cups.backbones.names import TEXTON
from cups.errors import UserError
from cups.io.fingerprint import array_digest, recipe_fingerprint
from cups.io.png import image_size
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
from pseudo_labels.inputs.features import count_cells, feature_folder, read_features
from pseudo_labels.settings.overclusters import CODES, COMPUTED, Clustering
from pseudo_labels.steps.folders import CODES_FOLDER
from pseudo_labels.steps.frames import Folder, Frame, input_paths

if TYPE_CHECKING:
    from pseudo_labels.networks.cause_codes import FeatureExtractor

log = logging.getLogger(__name__)
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

    def processes(self, workers: int) -> int:
        """Return how many processes may read: none but this one where a GPU computes."""
        return 0 if self.on_gpu else workers

    @property
    def fingerprint(self) -> str:
        """What the vectors are made of: recipes of the inputs, content of weights and textons."""
        inputs = [describe_input(path) for path in input_paths(self.inputs)]
        settings = {"textons": self.textons}
        return recipe_fingerprint({"script": "vectors", "inputs": inputs, "weights": self.weights}, settings)


@dataclass(frozen=True)
class StoredVectors:
    """Reads vectors of any length from files, as unit vectors."""

    folder: Folder

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the vectors of one frame."""
        return unit_rows(read_features(self.folder, frame))

    def cells(self, frame: Frame) -> int:
        """Return the number of its vectors."""
        return count_cells(self.folder, frame)


@dataclass(frozen=True, eq=False)
class WholeImage:
    """Computes unit features of a whole image, without windows."""

    extractor: FeatureExtractor

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the features of one frame."""
        features = self.extractor.features(self.extractor.image(frame.image))[0]
        return unit_rows(features.permute(1, 2, 0).cpu().numpy())

    def cells(self, frame: Frame) -> int:
        """Return the number of its vectors."""
        height, width = self.extractor.size(*image_size(frame.image))
        return (height // self.extractor.patch) * (width // self.extractor.patch)


@dataclass(frozen=True, eq=False)
class InContext:
    """Appends to each vector which textons (T, D) lie around it."""

    read: Reader
    textons: np.ndarray

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the vectors of one frame: (h, w, D + T)."""
        return with_context(self.read(frame), self.textons)

    def cells(self, frame: Frame) -> int:
        """Return the number of its vectors."""
        return self.read.cells(frame)


@dataclass(frozen=True, eq=False)
class Pooled:
    """Averages vectors over regions of even colour, still on the grid of cells."""

    read: Reader

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the vectors of one frame."""
        vectors, regions = self.read(frame), regions_of(frame)
        return regions.mean(vectors)[regions.at_cells(vectors.shape[0], vectors.shape[1])]

    def cells(self, frame: Frame) -> int:
        """Return the number of its vectors."""
        return self.read.cells(frame)


def vector_source(
    settings: Clustering, root: Path, frames: Sequence[Frame], fits: Fits, workers: int = 0
) -> VectorSource:
    """Return the source that `features` chooses; `context` fits its textons on `frames`.

    Args:
        root: under which feature folders, and heads that were trained here, are.
        workers: processes that read what is fitted on.

    Raises:
        UserError: a missing folder, missing heads (texton) or weights.
    """
    if settings.features not in COMPUTED:
        name = CODES_FOLDER if settings.features == CODES else settings.features
        return _stored(Folder(root, name, ".npy"))
    source = _backbone_source(settings, root)
    if settings.features == "context":
        fits = replace(fits, source=source.fingerprint)
        textons = textons_for(settings, source.read, frames, fits, source.processes(workers))
        return replace(source, read=InContext(source.read, textons), textons=array_digest(textons))
    return source


def _backbone_source(settings: Clustering, root: Path) -> VectorSource:
    """Return the features of the backbone: of the texton backbone as its heads see them, or of a network.

    A network's are read if its feature folder is there (`extract_dinov2_features`), and computed if not.
    """
    # Here: stored codes are clustered without any network, and start without torch.
    from pseudo_labels.networks.cause_heads import (
        backbone_file,
        backbone_of_heads,
        heads_folder,
        load_cause,
        load_extractor,
        read_settings,
    )
    from pseudo_labels.networks.frozen_features import backbone_weights

    folder = heads_folder(settings, root)
    name = backbone_of_heads(settings, folder, read_settings(folder))
    stored = feature_folder(root, name)
    if name != TEXTON and stored.directory.is_dir():
        log.info("features of %s: read from %s", name, stored.directory)
        return _stored(stored)
    if name == TEXTON:
        model = load_cause(settings, folder)
        extractor, weights = model.extractor, tuple(model.weights)
        inputs: tuple[Path | Folder, ...] = (folder,)
    else:
        extractor = load_extractor(settings, folder)
        inputs = (folder,) if extractor.standardizer is not None else ()
        weights = tuple(backbone_weights(name, backbone_file(settings, folder, name)))
    return VectorSource(WholeImage(extractor), inputs, weights, extractor.device.type != "cpu")


def _stored(folder: Folder) -> VectorSource:
    """Return vectors that a folder holds."""
    if not folder.directory.is_dir():
        hint = (
            "run generate_semantic_pseudolabels_cause.py first"
            if folder.name == CODES_FOLDER
            else f"`features` is {CODES}, {', '.join(COMPUTED)}, or a folder of the output root with one "
            "(rows, columns, channels) .npy for each image"
        )
        raise UserError(f"{folder.directory}: no such folder; {hint}")
    return VectorSource(StoredVectors(folder), (folder,))


def textons_for(
    settings: Clustering, read: Reader, frames: Sequence[Frame], fits: Fits, workers: int
) -> np.ndarray:
    """Load or fit the textons: (T, D) float32 centroids of features."""

    def fit() -> np.ndarray:
        tokens = sample_vectors(frames, read, settings.tokens_per_image, settings.seed, "textons", workers)
        return fit_kmeans(shuffled_batches(tokens, settings.epochs, settings.seed), TEXTONS, settings.seed)

    return fits.load_or_fit("textons.npz", fit, {"seed": settings.seed})
