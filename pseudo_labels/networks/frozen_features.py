"""Features of a frozen backbone: computed, or read from a folder, behind one interface.

A training reads crops of them in worker processes. Stored features are cut there. Features that are computed
belong to the whole image, so workers hand over that image, and the backbone runs where the training runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cups.backbones import build_backbone, find_weights, normalize
from cups.backbones.names import TEXTON, is_own, own_path
from cups.errors import UserError
from cups.io.png import read_image
from cups.io.provenance import known_weights, trained_weights
from cups.ops.resize import resize_image
from pseudo_labels.inputs.features import feature_folder, read_features
from pseudo_labels.networks.devices import pick_device, pick_precision
from pseudo_labels.settings.feature_choice import Backbone
from pseudo_labels.steps.ancestry import refuse_other_features
from pseudo_labels.steps.frames import Folder, Frame


@dataclass(frozen=True, eq=False)
class FrozenBackbone:
    """A frozen network and how images are brought to it.

    Args:
        height: image height for the network (0: as it is); both sides are rounded to whole patches.
        precision: number format inside the network, whatever surrounds it.
        flip: average with the mirrored image's features.
    """

    network: nn.Module
    height: int = 0
    precision: torch.dtype = torch.float32
    flip: bool = False

    @torch.no_grad()
    def maps(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, H'/p, W'/p, D) float16, on the device of the images.

        Raises:
            UserError: values beyond float16.
        """
        device = images.device
        network = self.network.to(device)
        pixels = self.resize(normalize(images))
        with torch.autocast(device.type, self.precision, enabled=self.precision != torch.float32):
            features = network(pixels).float()
            if self.flip:
                features = (features + network(pixels.flip(3)).float().flip(3)) / 2
        features = features.permute(0, 2, 3, 1).half()
        if not torch.isfinite(features).all():
            raise UserError("`precision`: features beyond the range of numbers; use fp32 or bf16")
        return features

    def resize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H', W') of `height` rows, both sides rounded to whole patches."""
        height, width = images.shape[-2:]
        rows, columns = (count * self._patch for count in self.grid((height, width)))
        return resize_image(images, (rows, columns), antialias=0 < self.height < height)

    @property
    def _patch(self) -> int:
        return int(self.network.patch_size)  # type: ignore[arg-type]

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the tokens of an image of `size`."""
        scale = (self.height or size[0]) / size[0]
        rows, columns = (max(1, round(side * scale / self._patch)) for side in size)
        return rows, columns


class Window(NamedTuple):
    """A crop of a token grid, from `top` and `left` on; it may be mirrored after it was cut."""

    top: int
    left: int
    rows: int
    columns: int
    mirrored: bool

    def cut(self, maps: Tensor) -> Tensor:
        """(h, w, D) -> (rows, columns, D)."""
        part = maps[self.top : self.top + self.rows, self.left : self.left + self.columns]
        return (part.flip(1) if self.mirrored else part).contiguous()


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """Features in a folder."""

    folder: Folder

    @property
    def inputs(self) -> list[Folder]:
        """The folder read, for provenance."""
        return [self.folder]

    @property
    def weights(self) -> list[dict[str, Any]]:
        """No weights: the folder's provenance names them."""
        return []

    def refuse_others_than(self, checkpoint: Path, name: str) -> None:
        """Refuse features that a network was not trained on, see `refuse_other_features`."""
        refuse_other_features(checkpoint, self.folder.directory, name)

    def name(self, frame: Frame) -> Path:
        """Return the file to name in errors about the features of a frame."""
        return self.folder.path(frame)

    def sample(self, frame: Frame) -> Tensor:
        """Return what a reader hands over: the features, (h, w, D) float32."""
        return torch.from_numpy(read_features(self.folder, frame))

    def grid(self, sample: Tensor) -> tuple[int, int]:
        """Return (rows, columns) of the tokens of a sample."""
        return sample.shape[0], sample.shape[1]

    def maps(self, samples: Tensor) -> Tensor:
        """(B, h, w, D) samples -> the same: they are the features."""
        return samples

    def cut(self, sample: Tensor, window: Window) -> Tensor:
        """Return the part of a sample that a crop needs."""
        return window.cut(sample)

    def crops(self, parts: Tensor, windows: Tensor) -> Tensor:
        """Return the features of crops: parts (B, h, w, D) from `cut`, windows (B, 5) -> (B, h, w, D)."""
        return parts


@dataclass(frozen=True, eq=False)
class StreamedFeatures:
    """Features that a backbone computes when they are needed; the same as stored ones, float16 included."""

    backbone: FrozenBackbone
    weights: list[dict[str, Any]]

    @property
    def inputs(self) -> list[Folder]:
        """No folder is read besides the images'."""
        return []

    def refuse_others_than(self, checkpoint: Path, name: str) -> None:
        """Take them: they are computed as the backbone gives them, and no folder can be another."""

    def name(self, frame: Frame) -> Path:
        """Return the file to name in errors about the features of a frame."""
        return frame.image

    def sample(self, frame: Frame) -> Tensor:
        """Return what a reader hands over: the image, (H, W, 3) uint8."""
        return torch.from_numpy(read_image(frame.image))

    def grid(self, sample: Tensor) -> tuple[int, int]:
        """Return (rows, columns) of the tokens of a sample."""
        return self.backbone.grid((sample.shape[0], sample.shape[1]))

    def maps(self, samples: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, h, w, D) float32, on the device of the samples."""
        return self.backbone.maps(samples).float()

    def cut(self, sample: Tensor, window: Window) -> Tensor:
        """Return the whole image: a token's features depend on all of it."""
        return sample

    def crops(self, parts: Tensor, windows: Tensor) -> Tensor:
        """Return the features of crops: parts (B, H, W, 3) from `cut`, windows (B, 5) -> (B, h, w, D)."""
        cut = (Window(*row).cut(maps) for row, maps in zip(windows.tolist(), self.maps(parts), strict=True))
        return torch.stack(list(cut))


FeatureSource = StoredFeatures | StreamedFeatures


@dataclass(frozen=True, eq=False)
class FeatureReader:
    """Reads whole feature maps one frame at a time: frame -> (h, w, D) float32."""

    source: FeatureSource
    device: torch.device

    def __call__(self, frame: Frame) -> np.ndarray:
        """Return the features of one frame."""
        sample = self.source.sample(frame)[None].to(self.device)
        return self.source.maps(sample)[0].cpu().numpy()


def require_channels(features: Tensor, expected: int) -> None:
    """Raise a `UserError` if features (..., D) have not the channels that a network was trained with."""
    if features.shape[-1] != expected:
        raise UserError(
            f"`backbone`: features of {features.shape[-1]} channels, the network was trained with "
            f"{expected}; give the features of that backbone"
        )


def backbone_weights(name: str, checkpoint: Path | None) -> list[dict[str, Any]]:
    """Return what provenance records of a backbone's weights; nothing for textons."""
    if is_own(name):
        return [trained_weights(own_path(name))]
    return [] if name == TEXTON else [known_weights(name, find_weights(name, checkpoint))]


def feature_source(
    root: Path, frames: Sequence[Frame], choice: Backbone, device: str, subdir: str | None = None
) -> FeatureSource:
    """Return the features of a backbone: from their folder under `root` if it is there, else computed.

    Args:
        device: on which frozen networks run, to choose their number format.
        subdir: a folder that has to be there instead of the backbone's own.

    Raises:
        UserError: files of these frames missing in the folder; neither a folder nor weights.
    """
    folder = feature_folder(root, choice.backbone) if subdir is None else Folder(root, subdir, ".npy")
    if subdir is not None or (choice.backbone_checkpoint is None and folder.directory.is_dir()):
        folder.require(frames, "run extract_dinov2_features.py or extract_dinov3_features.py")
        return StoredFeatures(folder)
    try:
        network = build_backbone(choice.backbone, choice.backbone_checkpoint)
    except UserError as error:
        raise UserError(f"{folder.directory}: no such folder, and to compute features: {error}") from None
    precision = pick_precision("auto", pick_device(device))
    backbone = FrozenBackbone(network, choice.rows, precision)
    return StreamedFeatures(backbone, backbone_weights(choice.backbone, choice.backbone_checkpoint))
