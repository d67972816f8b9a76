"""Training of the depth network on video alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cups.errors import NothingFound, UserError
from cups.io.checkpoint import load_tensors
from cups.io.provenance import known_weights
from cups.ops.motion import LEAST_MOVED
from pseudo_labels.inputs.sequences import (
    Clip,
    ClipDataset,
    change_colors,
    find_clips,
    sequence_folder,
    share_that_moves,
)
from pseudo_labels.losses.view_synthesis import edge_aware_smoothness, reprojection_loss, warp
from pseudo_labels.networks.depth_network import build_depth_network, save_depth_network
from pseudo_labels.networks.training import Fit, train
from pseudo_labels.settings.depth import TrainDepthSettings
from pseudo_labels.steps.frames import FrameSource
from pseudo_labels.steps.left_out import readable
from pseudo_labels.steps.options import RunOptions
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
MASKED = 0.01
"""Share of moving pixels below which the last steps taught nothing; on streets it is above one half."""
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises and nothing is masked. One wild step of the motion
would otherwise mask every pixel, and with no gradient left it stays wild."""


class DepthFit(Fit):
    """Depth and pose networks, trained to explain each frame from its neighbours."""

    settings: TrainDepthSettings

    def __init__(self, settings: TrainDepthSettings, depth: SQLDepth, pose: PoseNet) -> None:
        super().__init__(settings)
        self.depth, self.pose = depth, pose
        self.moving: Tensor | None = None
        """Share of pixels that move against the camera, mean over about the last 50 steps."""

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
            settled = self.global_step >= WARM_UP * self.settings.steps
            reprojection, moving = reprojection_loss(
                views, inside, sources, batch["present"], target, auto_mask=settled
            )
            smoothness = edge_aware_smoothness(depth, target)
        self.log("moving", moving)
        self.moving = moving if self.moving is None else torch.lerp(self.moving, moving, 0.02)
        return {"reprojection": reprojection, "smoothness": self.settings.smoothness_weight * smoothness}

    def loss_stride(self) -> int:
        """Return the pixels of the feed per pixel of the images compared at this step."""
        strides = self.settings.loss_strides
        return strides[min(len(strides) - 1, self.global_step * len(strides) // self.settings.steps)]

    def motion(self, target: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pose network's output for each source: axis-angle and translation, (B * S, 3) each.

        The network always sees the earlier frame first, as in Monodepth2.
        """
        pairs = [
            torch.cat((source, target) if offset < 0 else (target, source), dim=1)
            for source, offset in zip(sources.unbind(dim=1), self.settings.offsets, strict=True)
        ]
        stacked = torch.stack(pairs, dim=1).flatten(0, 1)
        return self.pose(F.interpolate(stacked, scale_factor=self.settings.pose_scale, mode="area"))

    def poses(self, axis_angle: Tensor, translation: Tensor, depth: Tensor) -> Tensor:
        """Return (B, S, 4, 4) motions from the target's to the sources' camera space.

        Translations count in units of the view's (harmonic) mean depth: neither can then shrink the loss by
        shrinking the scale that both share (Wang et al., CVPR 2018).
        """
        unit = TRANSLATION_UNIT / (1 / depth).mean(dim=(1, 2, 3))
        count = len(self.settings.offsets)
        translation = translation * unit.repeat_interleave(count)[:, None]
        parts = [
            transformation(turn, shift, invert=offset < 0)
            for turn, shift, offset in zip(
                axis_angle.unflatten(0, (-1, count)).unbind(1),
                translation.unflatten(0, (-1, count)).unbind(1),
                self.settings.offsets,
                strict=True,
            )
        ]
        return torch.stack(parts, dim=1)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up, then 1, and 0.1 over the last quarter."""
        done = (step + 1) / self.settings.steps
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
            f"(first: {missing[0]}); check `backbone` and `encoder_checkpoint`"
        )
    backbone.load_state_dict(fitting)


def _feature_name(name: str) -> str:
    """Name in timm's `features_only` models: they flatten `stages.0.x` to `stages_0.x`."""
    name = name.removeprefix("encoder.")
    for group in ("stem", "stages"):
        if name.startswith(f"{group}."):
            return name.replace(".", "_", 1)
    return name


def build_fit(settings: TrainDepthSettings) -> DepthFit:
    """Return the networks with seeded weights.

    Raises:
        UserError: an unknown backbone, weights that do not fit it.
    """
    torch.manual_seed(settings.seed)
    depth = build_depth_network(settings.network)
    if settings.encoder_checkpoint:
        load_encoder(depth, settings.encoder_checkpoint)
    try:
        pose = PoseNet(settings.pose_backbone)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise UserError(f"`pose_backbone` {settings.pose_backbone}: {error}; choose a ResNet") from None
    return DepthFit(settings, depth, pose)


def require_motion(clips: Sequence[Clip], settings: TrainDepthSettings, folder: Path) -> None:
    """Refuse pictures of a camera that stands still: all pixels would be masked, and nothing learned.

    folder: of the images, for the error.

    Raises:
        NothingFound: the edges of the pictures do not move.
    """
    share = share_that_moves(clips, (settings.height, settings.width), settings.crop_bottom)
    log.info("%d frames with neighbours; %.0f %% of the edges move", len(clips), 100 * share)
    if share < LEAST_MOVED:
        raise NothingFound(
            f"{folder}: the camera stands still ({100 * share:.1f} % of the edges move between neighbours), "
            "and depth is learned from motion; give video of a moving camera, or `offsets` further apart"
        )


def train_depth(source: FrameSource, settings: TrainDepthSettings, run: RunOptions) -> None:
    """Train depth and motion on the source's video and write their weights.

    Raises:
        UserError: no video, networks that cannot be built, a folder with another run.
        NothingFound: nothing moves in it.
    """
    folder = settings.checkpoint_dir or run.root(source) / "spidepth"
    source = readable(source, run)
    clips = find_clips(source, settings.offsets, settings.focal)
    require_motion(clips, settings, source.image_folder)
    size, cache = (settings.height, settings.width), int(settings.cache_gb * 2**30)
    dataset = ClipDataset(clips, size, settings.crop_bottom, settings.focal, settings.seed, cache)
    fit = build_fit(settings)
    weights: list[dict[str, Any]] = []
    if settings.encoder_checkpoint:
        # Unknown to the table, so whether labels supervised it stays unknown too.
        weights.append(known_weights(settings.encoder_checkpoint.stem, settings.encoder_checkpoint))
    videos = sequence_folder(source)
    inputs = [] if videos is None else [videos]
    train(fit, dataset, source, run, folder, script=SCRIPT, inputs=inputs, weights=weights)
    if fit.trainer.is_global_zero:
        save_depth_network(folder, fit.depth, fit.pose, settings.network)
        log.info("weights: %s", folder)
        if fit.moving is not None and fit.moving < MASKED:
            log.warning(
                "motion explains %.1f %% of the pixels in the last steps: no depth was learned; give more "
                "`steps`, or `loss_strides` 4 2 1",
                100 * fit.moving,
            )
