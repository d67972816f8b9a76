"""CAUSE-TR inference: 27 clusters and 90-channel codes for every image (Kim et al., 2024)."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from cups.ops.kmeans import smooth_labels
from cups.ops.png import read_ids, read_image, write_png
from pseudo_labels.cause_heads import CauseModel, add_model_arguments, checkpoint_folder, load_cause
from pseudo_labels.dense_crf import dense_crf
from pseudo_labels.executor import run_script
from pseudo_labels.pictures import label_pictures
from pseudo_labels.stage import (
    Folder,
    Frame,
    list_frames,
    make_parser,
    output_root,
    pick_device,
    run_stage,
    write_npy,
)

SCRIPT = "generate_semantic_pseudolabels_cause"
SEMANTIC_FOLDER, CODES_FOLDER = "pseudo_semantic_cause27", "codes_cause_tr"
ALPHA = 3.0
"""Sharpness of the cluster probabilities that the CRF starts from (CAUSE)."""


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__ or "")
    add_model_arguments(parser)
    parser.add_argument("--crf", action="store_true", help="refine labels along edges by a dense CRF (slow)")
    return parser.parse_args(argv)


@torch.no_grad()
def labels_of_codes(model: CauseModel, codes: np.ndarray, image: np.ndarray, crf: bool) -> np.ndarray:
    """Return cluster labels at the image's size.

    codes: (Hc, Wc, C) float; image: (H, W, 3) uint8 -> (H, W) uint8 in 0..num_classes-1.
    """
    tensor = torch.from_numpy(codes).permute(2, 0, 1)[None].float()
    similarities = model.cluster.similarities(tensor.to(model.cluster.cluster_probe.device)).cpu()
    size = (image.shape[0], image.shape[1])
    if crf:
        full = F.interpolate(similarities, size=size, mode="bilinear", align_corners=False)[0]
        return dense_crf(image, F.log_softmax(ALPHA * full, dim=0).numpy()).astype(np.uint8)
    return smooth_labels(similarities[0].permute(1, 2, 0), size).numpy().astype(np.uint8)


def make_process(model: CauseModel, semantic: Folder, codes: Folder, crf: bool) -> Callable[[Frame], None]:
    """Return the function that writes the codes, then the labels, of a frame."""

    def process(frame: Frame) -> None:
        image = read_image(frame.image)
        values = model.codes(frame.image)
        write_npy(codes.path(frame), values.astype(np.float16))
        write_png(semantic.path(frame), labels_of_codes(model, values, image, crf))

    return process


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_arguments(argv)
    frames, root = list_frames(args), output_root(args)
    model = load_cause(args, pick_device(args))
    semantic, codes = Folder(root, SEMANTIC_FOLDER, ".png"), Folder(root, CODES_FOLDER, ".npy")
    num_classes = len(model.cluster.cluster_probe)

    def show(frame: Frame) -> tuple[str, list[np.ndarray]]:
        labels = read_ids(semantic.path(frame))
        return frame.stem, label_pictures(read_image(frame.image), labels, None, num_classes)

    run_stage(
        frames,
        make_process(model, semantic, codes, args.crf),
        [codes, semantic],
        args,
        script=SCRIPT,
        inputs=[checkpoint_folder(args)],
        weights=model.weights,
        workers=0,  # the network has its own threads, or a GPU
        show=show,
    )
    return 0


if __name__ == "__main__":
    run_script(main)
