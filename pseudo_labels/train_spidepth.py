"""Train depth from monocular video by view synthesis, without labels and without stereo.

Depth and camera motion are learned together: they must explain each frame from its neighbours. The scale of
the depth is arbitrary. Writes `encoder.pth`, `depth.pth`, `pose.pth` and `settings.json`, which
generate_depth_spidepth.py reads.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from cups.errors import UserError, run_main
from cups.io.provenance import known_weights
from pseudo_labels.inputs.sequences import ClipDataset, find_clips, sequence_folder
from pseudo_labels.networks.depth_network import DepthSettings, build_depth_network, save_depth_network
from pseudo_labels.networks.depth_training import DepthFit, load_encoder
from pseudo_labels.networks.training import add_training_arguments, train
from pseudo_labels.steps.step import make_parser, output_root
from refs.spidepth.networks import PoseNet

log = logging.getLogger(__name__)
SCRIPT = "train_spidepth"
STRIDE = 32
"""Of the backbone; the feed's sides are multiples of it."""


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = make_parser(__doc__ or "", shards=False)
    default = DepthSettings()
    parser.add_argument("--checkpoint_dir", type=Path, help="folder to write (default: in --output_root)")
    video = parser.add_argument_group("video")
    video.add_argument("--offsets", type=int, nargs="+", default=[-1, 1], help="frames that explain a frame")
    video.add_argument(
        "--focal", type=float, help="focal length in image widths, instead of camera/ (Cityscapes: 1.1)"
    )
    video.add_argument("--height", type=int, default=default.height, help="feed size, multiple of 32")
    video.add_argument("--width", type=int, default=default.width, help="feed size, multiple of 32")
    video.add_argument(
        "--crop_bottom",
        type=float,
        default=default.crop_bottom,
        help="share of the rows without street (bonnet)",
    )
    video.add_argument("--cache_gb", type=float, default=1.0, help="memory for resized images (per worker)")
    network = parser.add_argument_group("network")
    network.add_argument("--backbone", default=default.backbone, help="timm model with strides 4 to 32")
    network.add_argument("--encoder_checkpoint", type=Path, help="its weights (default: random)")
    network.add_argument(
        "--dec_channels",
        type=int,
        nargs=4,
        default=list(default.dec_channels),
        help="decoder, coarse to fine",
    )
    for name, text in (
        ("model_dim", "channels of features and queries"),
        ("patch_size", "side of a token, in pixels of half the feed"),
        ("query_nums", "queries; at most as many as tokens"),
        ("dim_out", "depth bins"),
        ("feedforward", "hidden width of the transformer"),
    ):
        network.add_argument(f"--{name}", type=int, default=getattr(default, name), help=text)
    network.add_argument("--min_depth", type=float, default=default.min_depth, help="range of the bins")
    network.add_argument("--max_depth", type=float, default=default.max_depth, help="range of the bins")
    network.add_argument("--pose_backbone", default="resnet18", help="timm model with strides 2 to 32")
    network.add_argument("--pose_scale", type=float, default=1.0, help="size of its input in the feed's")
    add_training_arguments(parser, steps=60000, batch_size=8, lr=1e-4)
    parser.add_argument(
        "--loss_strides",
        type=int,
        nargs="+",
        choices=(1, 2, 4, 8),
        default=[1],
        help="compare images reduced so often, for equal shares of the steps; 4 2 1 learns fast from nothing",
    )
    parser.add_argument("--smoothness_weight", type=float, default=1e-3, help="of the inverse depth")
    return parser


def depth_settings(args: argparse.Namespace) -> DepthSettings:
    """Return the settings of a command line.

    Raises:
        UserError: impossible values.
    """
    for name in ("height", "width"):
        if getattr(args, name) < STRIDE or getattr(args, name) % STRIDE:
            raise UserError(f"--{name} {getattr(args, name)}: must be a multiple of {STRIDE}")
    if not args.offsets or 0 in args.offsets or len(set(args.offsets)) < len(args.offsets):
        raise UserError(f"--offsets {args.offsets}: give different numbers of frames, none of them 0")
    if args.focal is not None and args.focal <= 0:
        raise UserError(f"--focal {args.focal}: must be positive")
    if not 0 < args.pose_scale <= 1 or args.smoothness_weight < 0:
        raise UserError("--pose_scale must lie in 0-1, --smoothness_weight must not be negative")
    chosen = {field.name: getattr(args, field.name) for field in fields(DepthSettings)}
    chosen["dec_channels"] = tuple(args.dec_channels)
    return DepthSettings(**chosen)


def build_fit(args: argparse.Namespace, settings: DepthSettings) -> DepthFit:
    """Return the networks with seeded weights.

    Raises:
        UserError: an unknown backbone, weights that do not fit it.
    """
    torch.manual_seed(args.seed)
    depth = build_depth_network(settings)
    if args.encoder_checkpoint:
        load_encoder(depth, args.encoder_checkpoint)
    try:
        pose = PoseNet(args.pose_backbone)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise UserError(f"--pose_backbone {args.pose_backbone}: {error}; choose a ResNet") from None
    return DepthFit(args, depth, pose)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    settings = depth_settings(args)
    folder = Path(args.checkpoint_dir or output_root(args) / "spidepth")
    clips = find_clips(args, args.offsets)
    log.info("%d frames with neighbours", len(clips))
    size = (settings.height, settings.width)
    dataset = ClipDataset(
        clips, size, settings.crop_bottom, args.focal, args.seed, int(args.cache_gb * 2**30)
    )
    fit = build_fit(args, settings)
    weights: list[dict[str, Any]] = []
    if args.encoder_checkpoint:
        # Unknown to the table, so whether labels supervised it stays unknown too.
        weights.append(known_weights(args.encoder_checkpoint.stem))
    videos = sequence_folder(args)
    inputs = [] if videos is None else [videos]
    train(fit, dataset, args, folder, script=SCRIPT, inputs=inputs, weights=weights)
    if fit.trainer.is_global_zero:
        save_depth_network(folder, fit.depth, fit.pose, settings)
        log.info("weights: %s", folder)
    return 0


if __name__ == "__main__":
    run_main(main)
