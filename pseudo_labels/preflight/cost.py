"""What a step will cost: bytes on disk, and arithmetic of networks against the speed of this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cups.backbones import autocast, untrained_backbone
from cups.backbones.names import TEXTON
from pseudo_labels.networks.cause_codes import FeatureExtractor, Tiling
from pseudo_labels.networks.depth_network import build_depth_network
from pseudo_labels.networks.devices import pick_device, pick_precision
from pseudo_labels.networks.frozen_features import FrozenBackbone
from pseudo_labels.settings.depth import DepthSettings

HALF = 2
"""Bytes of a float16 number."""
CODE_BYTES = 90 * HALF
"""Of a token's code, with the published number of channels."""
LABEL_BYTES_PER_ROW = 53
"""Of a PNG label map, by the rows of the image: outlines grow with its side. Measured: 120 clusters on toy
streets, 10.1 KB at 192 rows."""
TRAINING = 3
"""Passes forward that a step of training costs: forward, and twice as much backward."""
EFFICIENCY = 0.5
"""Share of the speed of a large matrix product that a network reaches."""
PROBE_SIDE = 2048
PROBE_SECONDS = 0.4
GIB = 2**30


def measured_speed(device_name: str, precision_name: str = "auto") -> float:
    """Return the floating-point operations per second of a large matrix product, measured now.

    Args:
        device_name, precision_name: as the settings `device` and `precision` of a step.

    Raises:
        UserError: a device that is not here.
    """
    device = pick_device(device_name)
    return _measured(str(device), pick_precision(precision_name, device))


@cache
def _measured(device_name: str, precision: torch.dtype) -> float:
    device = torch.device(device_name)
    matrix = torch.ones(PROBE_SIDE, PROBE_SIDE, device=device)

    def product() -> None:
        with torch.inference_mode(), autocast(device, precision):
            # A number read back: only then the work is done, on whatever device.
            (matrix @ matrix)[0, 0].item()

    product()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < PROBE_SECONDS:
        product()
        count += 1
    return count * 2 * PROBE_SIDE**3 / (time.perf_counter() - start)


def network_seconds(flops: float, device: str, precision: str = "auto") -> float:
    """Return about how long networks take for so many floating-point operations here."""
    return flops / (EFFICIENCY * measured_speed(device, precision)) if flops else 0.0


@dataclass(frozen=True)
class Backbone:
    """What a backbone of `NAMES` costs; no weights are made."""

    name: str

    @property
    def _network(self) -> nn.Module:
        return _on_meta(self.name)

    @property
    def patch(self) -> int:
        """Pixels a token."""
        return int(self._network.patch_size)  # type: ignore[arg-type]

    @property
    def channels(self) -> int:
        """Of the features."""
        return int(self._network.embed_dim)  # type: ignore[arg-type]

    def flops(self, height: int, width: int) -> int:
        """Return the floating-point operations of one image (H, W); the texton's few are left out."""
        return 0 if self.name == TEXTON else _backbone_flops(self.name, height, width)

    def grid(self, rows: int, image: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the tokens of an image (H, W) that is brought to so many rows."""
        return FrozenBackbone(self._network, rows).grid(image)

    def windows(self, tiling: Tiling, image: tuple[int, int]) -> tuple[tuple[int, int], int]:
        """Return the size (H', W') to which an image (H, W) is brought, and its number of windows."""
        extractor = FeatureExtractor(self.name, self._network, tiling, torch.device("meta"))
        size = extractor.size(*image)
        return size, len(extractor.starts(size[0])) * len(extractor.starts(size[1]))


@cache
def _on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return untrained_backbone(name).eval()


@cache
def _backbone_flops(name: str, height: int, width: int) -> int:
    return _flops(_on_meta(name), height, width)


def depth_flops(settings: DepthSettings) -> int:
    """Return the floating-point operations of one image through the depth network."""

    class Parts(nn.Module):
        """The network without its `autocast`, which knows no meta device."""

        def __init__(self) -> None:
            super().__init__()
            self.network = build_depth_network(settings)

        def forward(self, images: Tensor) -> Tensor:
            return self.network.depth_decoder(self.network.encoder(images))

    with torch.device("meta"):
        return _flops(Parts().eval(), settings.height, settings.width)


def _flops(network: nn.Module, height: int, width: int) -> int:
    """Count a pass forward of a network on the meta device: shapes alone."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, height, width, device="meta"))
    return int(counter.get_total_flops())
