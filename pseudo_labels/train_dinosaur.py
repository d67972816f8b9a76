"""Train DINOSAUR: slot attention that reconstructs the patch features of a frozen network, without labels.

Reads `features_{backbone}/`; writes `dinosaur.pth`, which generate_dinosaur_instances.py takes, and pictures
of the slots' masks in `media/`. The defaults are those of the paper for a transformer's features.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cups.errors import UserError, run_main
from pseudo_labels.inputs.features import feature_folder, read_features
from pseudo_labels.inputs.refine_inputs import feature_statistics
from pseudo_labels.networks.dinosaur import (
    Dinosaur,
    save_dinosaur,
)
from pseudo_labels.networks.dinosaur_training import WEIGHTS, DinosaurFit, TokenCrops
from pseudo_labels.networks.training import add_training_arguments, train
from pseudo_labels.steps.arguments import require_at_least_one
from pseudo_labels.steps.step import Folder, Frame, list_frames, make_parser, output_root

log = logging.getLogger(__name__)
SCRIPT = "train_dinosaur"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = make_parser(__doc__ or "", shards=False)
    parser.set_defaults(num_workers=4)
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("--backbone", default="dinov3_vitb16", help="whose features_{NAME}/ to read")
    inputs.add_argument(
        "--crop",
        type=float,
        nargs=2,
        default=[0.8, 0.8],
        metavar=("HEIGHT", "WIDTH"),
        help="size of random crops, in shares of the token grid",
    )
    inputs.add_argument(
        "--standardize",
        choices=["auto", "on", "off"],
        default="auto",
        help="features by mean and deviation of each channel (auto: texton)",
    )
    network = parser.add_argument_group("network")
    network.add_argument("--checkpoint_dir", type=Path, help="folder to write (default: in --output_root)")
    for name, default, text in (
        ("num_slots", 30, "slots"),
        ("slot_dim", 256, "channels of a slot"),
        ("iterations", 3, "iterations of slot attention"),
        ("decoder_dim", 2048, "hidden width of the decoder"),
        ("decoder_layers", 3, "hidden layers of the decoder"),
    ):
        network.add_argument(f"--{name}", type=int, default=default, help=text)
    network.add_argument(
        "--position_grid",
        type=int,
        nargs=2,
        metavar=("ROWS", "COLUMNS"),
        help="learned positions of the decoder, interpolated (default: one per token; fewer learn faster)",
    )
    network.add_argument(
        "--encode_position",
        choices=["auto", "on", "off"],
        default="auto",
        help="tell the slots where a token is (auto: texton, whose features do not)",
    )
    add_training_arguments(parser, steps=500_000, batch_size=64, lr=4e-4, clip=1.0)
    parser.add_argument("--warm_up", type=float, default=0.02, help="linear warm-up, share of the steps")
    parser.add_argument(
        "--half_life", type=float, default=0.2, help="of the rate after warm-up, share of the steps"
    )
    parser.add_argument(
        "--decode_tokens", type=int, default=256, help="tokens reconstructed per image and step (0: all)"
    )
    return parser


def check(args: argparse.Namespace) -> None:
    """Raise a `UserError` for impossible arguments."""
    require_at_least_one(args, "num_slots", "slot_dim", "iterations", "decoder_dim", "decoder_layers")
    if min(args.position_grid or [1]) < 1:
        raise UserError("--position_grid: both sides must be at least 1")
    if not all(0 < share <= 1 for share in args.crop):
        raise UserError(f"--crop {args.crop[0]} {args.crop[1]}: shares must be above 0 and at most 1")
    if args.warm_up < 0 or args.half_life <= 0:
        raise UserError("--warm_up must not be negative, --half_life must be above 0")
    if args.decode_tokens < 0:
        raise UserError(f"--decode_tokens {args.decode_tokens}: must not be negative")


def build_fit(
    args: argparse.Namespace, frames: Sequence[Frame], features: Folder, media: Path
) -> tuple[DinosaurFit, dict[str, Any]]:
    """Return the network with seeded weights, and the arguments of its constructor."""
    *grid, channels = read_features(features, frames[0]).shape
    local = args.backbone == "texton"
    chosen = ("num_slots", "slot_dim", "iterations", "decoder_dim", "decoder_layers")
    shape = {
        "feature_dim": channels,
        "grid": args.position_grid or grid,
        **{name: getattr(args, name) for name in chosen},
        "encode_position": args.encode_position == "on" or (args.encode_position == "auto" and local),
    }
    torch.manual_seed(args.seed)
    network = Dinosaur(**shape)
    if args.standardize == "on" or (args.standardize == "auto" and local):
        statistics = feature_statistics(frames, features)
        network.set_statistics(statistics.mean, statistics.std)
    crop = [max(1, round(share * length)) for share, length in zip(args.crop, grid, strict=True)]
    return DinosaurFit(args, network, TokenCrops(frames, features, grid, crop, args.seed), media), shape


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    check(args)
    frames, root = list_frames(args), output_root(args)
    features = feature_folder(root, args.backbone)
    features.require(frames, "extract the features first, or check --backbone")
    folder = Path(args.checkpoint_dir or root / "dinosaur")
    fit, shape = build_fit(args, frames, features, folder / "media")
    train(fit, fit.crops, args, folder, script=SCRIPT, inputs=[features.directory])
    if fit.trainer.is_global_zero:
        save_dinosaur(folder / WEIGHTS, fit.network, shape, {"backbone": args.backbone})
        log.info("weights: %s", folder / WEIGHTS)
    return 0


if __name__ == "__main__":
    run_main(main)
