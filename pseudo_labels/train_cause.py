"""Train the CAUSE heads on a backbone, without labels: codebook, decoder, cluster probe."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cups.backbones import load_tensors
from cups.errors import UserError, run_main
from cups.io.checkpoint import write_file
from cups.io.provenance import known_weights, read_provenance, write_provenance
from pseudo_labels.networks.cause_heads import (
    SEGMENT,
    FeatureExtractor,
    add_model_arguments,
    build_extractor,
    checkpoint_folder,
    save_heads,
)
from pseudo_labels.networks.cause_training import PHASES, Trainer, WindowSource, build_heads, fit_standardizer
from pseudo_labels.steps.arguments import recorded
from pseudo_labels.steps.step import (
    Frame,
    image_folder,
    list_frames,
    make_parser,
    pick_device,
    refuse_other_settings,
    settings_of,
)

log = logging.getLogger(__name__)
SCRIPT = "train_cause"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", shards=False)
    add_model_arguments(parser)
    train = parser.add_argument_group("training")
    train.add_argument("--codebook_steps", type=int, help="steps of phase 1 (default: one epoch)")
    train.add_argument("--head_steps", type=int, help="steps of phase 2 (default: two epochs)")
    train.add_argument("--probe_steps", type=int, help="steps of phase 3 (default: five epochs)")
    train.add_argument("--codebook_size", type=int, default=2048, help="rows of the modularity codebook")
    train.add_argument("--reduced_dim", type=int, default=90, help="channels of the codes")
    train.add_argument("--projection_dim", type=int, default=2048, help="channels of the contrastive space")
    train.add_argument("--hidden_dim", type=int, default=2048, help="hidden width of the decoder's MLP")
    train.add_argument("--num_classes", type=int, default=27, help="clusters of the probe")
    train.add_argument("--batch_size", type=int, default=16, help="windows per step")
    train.add_argument("--lr", type=float, default=1e-3, help="Adam learning rate of all phases")
    train.add_argument("--clip", type=float, default=1.0, help="gradient norm limit of phase 2")
    train.add_argument(
        "--cache_gb", type=float, default=2.0, help="memory for features of the local backbone"
    )
    train.add_argument(
        "--standardize",
        choices=["auto", "on", "off"],
        default="auto",
        help="centre features by statistics of the images (auto: for texton)",
    )
    parser.set_defaults(num_workers=4)
    args = parser.parse_args(argv)
    for name in ("batch_size", "codebook_size", "reduced_dim", "projection_dim", "hidden_dim", "num_classes"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return args


def train(args: argparse.Namespace, frames: Sequence[Frame], folder: Path) -> None:
    """Run the phases that `folder` does not hold yet and write the heads.

    Raises:
        UserError: the folder holds phases of a run with other settings.
    """
    extractor = build_extractor(args, folder, {}, pick_device(args))
    if args.standardize == "on" or (args.standardize == "auto" and extractor.name == "texton"):
        extractor = replace(extractor, standardizer=fit_standardizer(frames, extractor))
    settings = describe(args, extractor, len(frames))
    segment, cluster = build_heads(args, extractor)
    source = WindowSource(frames, extractor, int(args.cache_gb * 2**30), args.num_workers)
    trainer = Trainer(args, source, segment, cluster)
    both = nn.ModuleDict({"segment": segment, "cluster": cluster})
    for phase in PHASES:
        state = folder / f"after_{phase}.pth"
        if state.is_file() and not args.overwrite:
            both.load_state_dict(load_tensors(state))
            log.info("%s: done before, loaded %s", phase, state)
            continue
        trainer.run(phase)
        write_file(state, both.state_dict())
    save_heads(folder, segment, cluster, settings)


def describe(args: argparse.Namespace, extractor: FeatureExtractor, num_frames: int) -> dict[str, Any]:
    """Return what `settings.json` holds: what inference needs, and what the heads were trained with."""
    settings: dict[str, Any] = {"backbone": extractor.name, "tiling": asdict(extractor.tiling)}
    if extractor.standardizer is not None:
        settings["mean"] = np.round(extractor.standardizer.mean.tolist(), 6).tolist()
        settings["std"] = np.round(extractor.standardizer.std.tolist(), 6).tolist()
    return {**settings, "training": settings_of(args), "frames": num_frames}


def check_folder(folder: Path, args: argparse.Namespace) -> None:
    """Refuse to overwrite published heads, or to continue a run that had other settings.

    Raises:
        UserError: either of the two, without `--overwrite`.
    """
    if args.overwrite:
        return
    earlier = read_provenance(folder)
    if earlier is None and (folder / SEGMENT).is_file():
        raise UserError(f"{folder / SEGMENT}: heads not trained here; give another --checkpoint_dir")
    if earlier is not None:
        refuse_other_settings(folder, earlier, args, SCRIPT)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_arguments(argv)
    args.backbone = args.backbone or "dinov2_vitb14"
    frames = list_frames(args)
    folder = checkpoint_folder(args)
    folder.mkdir(parents=True, exist_ok=True)
    check_folder(folder, args)
    weights = [] if args.backbone == "texton" else [known_weights(args.backbone)]
    write_provenance(
        folder, script=SCRIPT, arguments=recorded(args), inputs=[image_folder(args)], weights=weights
    )
    train(args, frames, folder)
    log.info("heads: %s", folder)
    return 0


if __name__ == "__main__":
    run_main(main)
