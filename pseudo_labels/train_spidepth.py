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
import torch.nn.functional as F
from torch import Tensor

from cups.backbones import load_tensors
from cups.errors import UserError, run_main
from cups.io.provenance import known_weights
from pseudo_labels.inputs.sequences import ClipDataset, change_colors, find_clips, sequence_folder
from pseudo_labels.losses.view_synthesis import edge_aware_smoothness, reprojection_loss, warp
from pseudo_labels.networks.depth_network import DepthSettings, build_depth_network, save_depth_network
from pseudo_labels.networks.training import Fit, add_training_arguments, train
from pseudo_labels.steps.step import make_parser, output_root
from refs.spidepth import SQLDepth
from refs.spidepth.layers import transformation
from refs.spidepth.networks import PoseNet

log = logging.getLogger(__name__)
SCRIPT = "train_spidepth"
DROP_AT = 0.75
"""Share of the steps after which the learning rate falls to a tenth (Monodepth2: 15 of 20 epochs)."""
TRANSLATION_UNIT = 10.0
"""Mean depths per unit of the pose network's translation. Its own factor, 0.01, suits rotations; a car drives
some hundredths of the mean depth per frame, and without this hundreds of steps did not get there."""
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises and nothing is masked. One wild step of the motion
would otherwise mask every pixel, and with no gradient left it stays wild."""
STRIDE = 32
"""Of the backbone; the feed's sides are multiples of it."""


class DepthFit(Fit):
    """Depth and pose networks, trained to explain each frame from its neighbours."""

    def __init__(self, args: argparse.Namespace, depth: SQLDepth, pose: PoseNet) -> None:
        super().__init__(args)
        self.depth, self.pose = depth, pose

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of a batch of `ClipDataset`: reprojection and smoothness."""
        target, sources, camera = batch["target"], batch["sources"], batch["intrinsics"]
        count = sources.shape[1]
        changed = change_colors(target, batch["jitter"])
        others = change_colors(sources.flatten(0, 1), batch["jitter"].repeat_interleave(count, dim=0))
        depth = self.depth(changed)
        motion = self.motion(changed, others.unflatten(0, (-1, count)))
        with torch.autocast(target.device.type, enabled=False):
            for _ in range(self.loss_stride().bit_length() - 1):
                target, sources, camera = halve(target, sources, camera)
            depth = F.interpolate(depth, size=target.shape[-2:], mode="bilinear", align_corners=False)
            poses = self.poses(motion[0].float(), motion[1].float(), depth)
            views, inside = warp(sources, depth, camera, torch.linalg.inv(camera), poses)
            settled = self.global_step >= WARM_UP * self.args.steps
            reprojection, moving = reprojection_loss(
                views, inside, sources, batch["present"], target, auto_mask=settled
            )
            smoothness = edge_aware_smoothness(depth, target)
        self.log("moving", moving)
        return {"reprojection": reprojection, "smoothness": self.args.smoothness_weight * smoothness}

    def loss_stride(self) -> int:
        """Return the pixels of the feed per pixel of the images compared at this step."""
        strides = self.args.loss_strides
        return strides[min(len(strides) - 1, self.global_step * len(strides) // self.args.steps)]

    def motion(self, target: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pose network's output for each source: axis-angle and translation, (B * S, 3) each.

        The network always sees the earlier frame first, as in Monodepth2.
        """
        pairs = [
            torch.cat((source, target) if offset < 0 else (target, source), dim=1)
            for source, offset in zip(sources.unbind(dim=1), self.args.offsets, strict=True)
        ]
        stacked = torch.stack(pairs, dim=1).flatten(0, 1)
        return self.pose(F.interpolate(stacked, scale_factor=self.args.pose_scale, mode="area"))

    def poses(self, axis_angle: Tensor, translation: Tensor, depth: Tensor) -> Tensor:
        """Return (B, S, 4, 4) motions from the target's to the sources' camera space.

        Translations count in units of the view's (harmonic) mean depth: neither can then shrink the loss by
        shrinking the scale that both share (Wang et al., CVPR 2018).
        """
        unit = TRANSLATION_UNIT / (1 / depth).mean(dim=(1, 2, 3))
        count = len(self.args.offsets)
        translation = translation * unit.repeat_interleave(count)[:, None]
        parts = [
            transformation(turn, shift, invert=offset < 0)
            for turn, shift, offset in zip(
                axis_angle.unflatten(0, (-1, count)).unbind(1),
                translation.unflatten(0, (-1, count)).unbind(1),
                self.args.offsets,
                strict=True,
            )
        ]
        return torch.stack(parts, dim=1)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then 1, and 0.1 over the last quarter."""
        done = (step + 1) / self.args.steps
        return min(1.0, done / WARM_UP) if done <= DROP_AT else 0.1


def halve(target: Tensor, sources: Tensor, camera: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Halve the size of (B, 3, H, W) and (B, S, 3, H, W) images with even sides, and of their cameras."""
    scaled = camera.clone()
    scaled[:, :2] /= 2
    # Pixel centres are whole numbers, so the border of the image is at -0.5.
    scaled[:, :2, 2] -= 0.25
    small = F.avg_pool2d(sources.flatten(0, 1), 2).unflatten(0, sources.shape[:2])
    return F.avg_pool2d(target, 2), small, scaled


def load_encoder(network: SQLDepth, path: Path) -> None:
    """Load weights of a timm classifier, or of its features, into the backbone.

    Raises:
        UserError: unreadable file, or weights of another backbone.
    """
    backbone = network.encoder.encoder
    wanted = backbone.state_dict()
    state = {_feature_name(name): value for name, value in load_tensors(path).items()}
    fitting = {
        name: state[name] for name in wanted if name in state and state[name].shape == wanted[name].shape
    }
    missing = sorted(wanted.keys() - fitting.keys())
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(wanted)} tensors of the backbone are missing or of another size "
            f"(first: {missing[0]}); check --backbone and --encoder_checkpoint"
        )
    backbone.load_state_dict(fitting)


def _feature_name(name: str) -> str:
    """Name in timm's `features_only` models: they flatten `stages.0.x` to `stages_0.x`."""
    name = name.removeprefix("encoder.")
    for group in ("stem", "stages"):
        if name.startswith(f"{group}."):
            return name.replace(".", "_", 1)
    return name


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
