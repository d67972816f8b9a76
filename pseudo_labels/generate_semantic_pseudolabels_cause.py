"""CAUSE-TR inference: 27 clusters and 90-channel codes for every image (Kim et al., 2024)."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cups.io.files import write_npy
from cups.io.png import read_ids, read_image, write_png
from cups.ops.dense_crf import dense_crf
from cups.ops.smooth_labels import smooth_labels
from pseudo_labels.inputs.labels import CODES_FOLDER, SEMANTIC_FOLDER
from pseudo_labels.networks.cause_heads import (
    WINDOW_BATCH,
    CauseModel,
    add_model_arguments,
    checkpoint_folder,
    load_cause,
)
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.pictures import label_pictures
from pseudo_labels.steps.step import (
    Folder,
    Frame,
    add_batch_argument,
    list_frames,
    make_parser,
    output_root,
    pick_device,
    run_stage,
)
from pseudo_labels.steps.workers import Batched

SCRIPT = "generate_semantic_pseudolabels_cause"
ALPHA = 3.0
"""Sharpness of the cluster probabilities that the CRF starts from (CAUSE)."""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__ or "")
    add_batch_argument(parser, WINDOW_BATCH, what="windows")
    add_model_arguments(parser)
    parser.add_argument("--crf", action="store_true", help="refine labels along edges by a dense CRF (slow)")
    return parser.parse_args(argv)


@dataclass(frozen=True, eq=False)
class Inference:
    """The parts of a `Batched` step: image -> codes and similarities -> files."""

    model: CauseModel
    semantic: Folder
    codes: Folder
    crf: bool

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

    def show(self, frame: Frame) -> tuple[str, list[np.ndarray]]:
        """Return caption and pictures (image, labels) of one frame for the contact sheet."""
        labels, num_classes = read_ids(self.semantic.path(frame)), len(self.model.cluster.cluster_probe)
        return frame.stem, label_pictures(read_image(frame.image), labels, None, num_classes)


def labels_of(similarities: Tensor, image: np.ndarray, crf: bool) -> np.ndarray:
    """Return cluster labels at the image's size.

    similarities: (Hc, Wc, K) cosines; image: (H, W, 3) uint8 -> (H, W) uint8 in 0..K-1.
    """
    size = (image.shape[0], image.shape[1])
    if not crf:
        return smooth_labels(similarities, size).to(torch.uint8).cpu().numpy()
    full = F.interpolate(similarities.permute(2, 0, 1)[None], size=size, mode="bilinear")[0]
    return dense_crf(image, F.log_softmax(ALPHA * full, dim=0).cpu().numpy()).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_arguments(argv)
    frames, root = list_frames(args), output_root(args)
    model = load_cause(args, pick_device(args), args.batch_size)
    semantic, codes = Folder(root, SEMANTIC_FOLDER, ".png"), Folder(root, CODES_FOLDER, ".npy")
    step = Inference(model, semantic, codes, args.crf)
    run_stage(
        frames,
        Batched(step.load, step.compute, step.save),
        [codes, semantic],
        args,
        script=SCRIPT,
        inputs=[checkpoint_folder(args)],
        weights=model.weights,
        show=step.show,
    )
    return 0


if __name__ == "__main__":
    run_script(main)
