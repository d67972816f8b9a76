"""Clusters and codes of every image by CAUSE-TR (Kim et al., 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cups.io.files import write_npy
from cups.io.png import read_ids, read_image, write_png
from cups.ops.dense_crf import refined_labels, require_dense_crf
from cups.ops.smooth_labels import smooth_labels
from cups.taxonomy import id_dtype
from pseudo_labels.inputs.class_order import class_order
from pseudo_labels.networks.cause_codes import CauseModel
from pseudo_labels.networks.cause_heads import SETTINGS, heads_folder, load_cause
from pseudo_labels.networks.devices import images_at_once, pick_device
from pseudo_labels.settings.cause import CauseSettings
from pseudo_labels.steps.earlier import first_size, refuse_earlier_crf, refuse_earlier_way
from pseudo_labels.steps.folders import CAUSE_SEMANTICS, CODES_FOLDER
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import Step, Summary, run_step
from pseudo_labels.steps.workers import Batched

SCRIPT = "generate_semantic_pseudolabels_cause"
ALPHA = 3.0
"""Sharpness of the cluster probabilities that the CRF starts from (CAUSE)."""


@dataclass(frozen=True, eq=False)
class CauseInference:
    """The parts of a `Batched` step: image -> codes and similarities -> files."""

    model: CauseModel
    semantic: Folder
    codes: Folder
    crf: int | None

    def load(self, frame: Frame) -> tuple[Tensor, np.ndarray]:
        """Return the image, (H, W, 3) uint8, as a tensor and as it is."""
        image = read_image(frame.image)
        return torch.from_numpy(image), image

    @torch.no_grad()
    def compute(
        self, batch: Tensor, images: Sequence[np.ndarray]
    ) -> list[tuple[np.ndarray, Tensor, np.ndarray]]:
        """Return codes (Hc, Wc, C), cosine similarities to the classes (Hc, Wc, K) and image of each."""
        outputs = []
        for one, image in zip(batch.split(1), images, strict=True):
            codes = self.model.codes(self.model.extractor.prepare(one))
            similar = self.model.cluster.similarities(codes.permute(2, 0, 1)[None])[0]
            outputs.append((codes.cpu().numpy(), similar.permute(1, 2, 0), image))
        return outputs

    def save(self, frame: Frame, output: tuple[np.ndarray, Tensor, np.ndarray]) -> None:
        """Write the codes, then the labels, of a frame."""
        codes, similarities, image = output
        write_npy(self.codes.path(frame), codes.astype(np.float16))
        write_png(self.semantic.path(frame), labels_of(similarities, image, self.crf))

    def show(self, frame: Frame) -> list[np.ndarray]:
        """Return the pictures (image, labels) of one frame for the contact sheet."""
        labels = read_ids(self.semantic.path(frame))
        return label_pictures(read_image(frame.image), labels, None, self.model.num_classes)


def labels_of(similarities: Tensor, image: np.ndarray, crf: int | None) -> np.ndarray:
    """Return cluster labels at the image's size.

    similarities: (Hc, Wc, K) cosines; image: (H, W, 3) uint8; crf: image height inside the CRF, None: no CRF
    -> (H, W) in 0..K-1, uint8 or (above 254 clusters) uint16.
    """
    dtype = id_dtype(similarities.shape[2])
    size = (image.shape[0], image.shape[1])
    if crf is None:
        return smooth_labels(similarities, size).cpu().numpy().astype(dtype)
    return refined_labels(similarities, image, ALPHA, crf).astype(dtype)


def _refuse_earlier_flip(inference: CauseInference, source: FrameSource, run: FrameRun) -> None:
    """Refuse to add to codes that an earlier version averaged with windows that lay elsewhere.

    It cut the mirrored image anew. Where windows are spread evenly (2:1, 3:2, 1:1), that was the same.
    """
    model = inference.model
    way = "windows of the mirrored image"
    refuse_earlier_way(
        inference.codes,
        run,
        "flip",
        way,
        lambda: not (model.flip and model.extractor.spread_evenly(*first_size(source.frames()))),
    )


def make_cause_semantics(source: FrameSource, settings: CauseSettings, run: FrameRun) -> Summary:
    """Write the codes and the clusters of all frames.

    The provenance says that the labels are CAUSE's 27 classes where the heads say which row of the probe is
    which class, and clusters without names otherwise.

    Raises:
        UserError: missing heads, weights or dense CRF, or a folder with files of another run.
    """
    if settings.crf:
        require_dense_crf()  # now: `skip_bad` would take each image for a bad one
    root = run.root(source)
    heads = heads_folder(settings, root)
    windows = images_at_once(settings.batch_size, pick_device(settings.device))
    model = load_cause(settings, heads, windows)
    model = replace(model, flip=settings.flip == "windows")
    order = class_order(heads / SETTINGS)
    inference = CauseInference(
        model, Folder(root, CAUSE_SEMANTICS, ".png"), Folder(root, CODES_FOLDER, ".npy"), settings.crf_rows
    )
    refuse_earlier_crf(inference.semantic, run, source, settings.crf_rows)
    _refuse_earlier_flip(inference, source, run)
    step = Step(
        SCRIPT,
        settings,
        Batched(inference.load, inference.compute, inference.save),
        [inference.codes, inference.semantic],
        inference.show,
        inputs=[heads],
        weights=model.weights,
        labels=LabelKind("clusters" if order is None else "cause27", model.num_classes),
    )
    return run_step(source, step, run)
