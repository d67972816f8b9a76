"""Settings of depth: the network, its training on video, and the maps that a step writes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cups.allowed import BELOW_ONE, GIGABYTES, NAME, NOT_NEGATIVE, SCALE, SHARE, SIDE, WIDTH, whole, within
from cups.errors import UserError
from pseudo_labels.settings.groups import Inference
from pseudo_labels.settings.training import Training
from pseudo_labels.steps.flags import Settings, flag, other_default

FEED_SIZE = ("height", "width")
FARTHEST = 65504.0
"""Largest number of the depth files (float16)."""
DEPTH = within(above=0, most=FARTHEST)
"""Metres."""
STRIDE = 32
"""Of the backbone; in training the feed's sides are multiples of it."""
SOURCES = ("spidepth", "disparity")
STEREO_RANGE = (0.5, 80.0)
"""Default nearest and farthest metres of depth from disparity."""


@dataclass(frozen=True)
class DepthSettings(Settings):
    """Depth network.

    What rebuilds it and feeds it; the defaults are the published Cityscapes model's.

    Raises:
        UserError: impossible values. Whether the parts of the network fit each other, `build_depth_network`
            checks.
    """

    backbone: str = flag("convnextv2_huge", "ConvNeXt or ResNet by its name in timm", allowed=NAME)
    model_dim: int = flag(32, "channels of features and queries", allowed=WIDTH)
    patch_size: int = flag(32, "side of a token, in pixels of half the feed", allowed=SIDE)
    query_nums: int = flag(64, "queries; at most as many as tokens", allowed=WIDTH)
    dim_out: int = flag(64, "depth bins", allowed=WIDTH)
    dec_channels: tuple[int, ...] = flag(
        (1024, 512, 256, 128), "four widths of the decoder, coarse to fine", allowed=WIDTH
    )
    feedforward: int = flag(1024, "hidden width of the transformer", allowed=WIDTH)
    min_depth: float = flag(0.001, "nearest depth of the bins", allowed=DEPTH)
    max_depth: float = flag(80.0, "farthest depth of the bins", allowed=DEPTH)
    height: int = flag(320, "rows of the images as the network takes them, multiple of 32", allowed=SIDE)
    width: int = flag(1024, "columns of the images as the network takes them, multiple of 32", allowed=SIDE)
    crop_bottom: float = flag(
        0.25, "share of the rows without street (bonnet), cut off at the bottom", allowed=BELOW_ONE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        four = len(self.dec_channels) == 4
        _require(four, "dec_channels", " ".join(map(str, self.dec_channels)), "must be four numbers")
        above = self.min_depth < self.max_depth
        _require(above, "max_depth", self.max_depth, f"must lie above `min_depth` {self.min_depth}")


def _require(fits: bool, name: str, value: Any, rule: str) -> None:
    if not fits:
        raise UserError(f"`{name}` {value}: {rule}")


@dataclass(frozen=True)
class TrainDepthSettings(DepthSettings, Training):
    """Depth from video."""

    offsets: tuple[int, ...] = flag((-1, 1), "frames that explain a frame", allowed=whole(-1000, 1000))
    focal: float | None = flag(
        None, "focal length in image widths, instead of camera/ (Cityscapes: 1.1)", allowed=SCALE
    )
    cache_gb: float = flag(1.0, "memory for resized images (per worker)", decides=False, allowed=GIGABYTES)
    encoder_checkpoint: Path | None = flag(None, "weights of the backbone (default: random)")
    pose_backbone: str = flag("resnet18", "ResNet by its name in timm, for the camera's motion", allowed=NAME)
    pose_scale: float = flag(1.0, "size of its input in the feed's", allowed=SHARE)
    steps: int = other_default(Training, "steps", 60000)
    batch_size: int = other_default(Training, "batch_size", 8)
    lr: float = other_default(Training, "lr", 1e-4)
    loss_strides: tuple[int, ...] = flag(
        (1,),
        "compare images reduced so often, for equal shares of the steps; 4 2 1 learns fast from nothing",
        choices=(1, 2, 4, 8),
    )
    smoothness_weight: float = flag(1e-3, "of the inverse depth", allowed=NOT_NEGATIVE)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in FEED_SIZE:
            value = getattr(self, name)
            _require(value >= STRIDE and value % STRIDE == 0, name, value, f"must be a multiple of {STRIDE}")
        different = 0 not in self.offsets and len(set(self.offsets)) == len(self.offsets) > 0
        given = " ".join(map(str, self.offsets))
        _require(different, "offsets", given, "give different numbers of frames, none of them 0")

    @property
    def network(self) -> DepthSettings:
        """Return what rebuilds the network, apart from how it was trained."""
        return DepthSettings(**{field.name: getattr(self, field.name) for field in fields(DepthSettings)})


@dataclass(frozen=True)
class DepthMapSettings(Inference):
    """Depth maps."""

    source: str = flag("spidepth", "network, or disparity/", choices=SOURCES)
    checkpoint_dir: Path | None = flag(
        None, "folder with encoder.pth and depth.pth (default: refs/spidepth/checkpoints/cityscapes)"
    )
    post_process: bool = flag(False, "average with the mirrored image")
    height: int | None = flag(None, "rows fed to the network (default: as trained)", allowed=SIDE)
    width: int | None = flag(None, "columns fed to the network (default: as trained)", allowed=SIDE)
    crop_bottom: float | None = flag(
        None,
        "share of the rows cut off at the bottom and refilled (default: as trained; 0.25 on Cityscapes)",
        allowed=BELOW_ONE,
    )
    min_depth: float | None = flag(
        None,
        f"nearest depth (default: as trained; disparity is clipped at {STEREO_RANGE[0]} m)",
        allowed=DEPTH,
    )
    max_depth: float | None = flag(
        None,
        f"farthest depth (default: as trained; disparity is clipped at {STEREO_RANGE[1]} m)",
        allowed=DEPTH,
    )
