"""What a step will cost: bytes on disk, and arithmetic of networks against the speed of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cups.backbones import autocast, untrained_backbone
from cups.backbones.names import TEXTON
from pseudo_labels.networks.depth_network import build_depth_network
from pseudo_labels.networks.devices import pick_device, pick_precision
from pseudo_labels.settings.depth import DepthSettings

HALF = 2
"""Bytes of a float16 number."""
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
class BackboneShape:
    """Pixels a token, and channels of the features."""

    patch: int
    channels: int


def backbone_shape(name: str) -> BackboneShape:
    """Return the shape of a backbone's features."""
    network = _on_meta(lambda: untrained_backbone(name))
    return BackboneShape(int(network.patch_size), int(network.embed_dim))  # type: ignore[arg-type]


def backbone_flops(name: str, height: int, width: int) -> int:
    """Return the floating-point operations of one image (H, W) through a backbone; the texton's are few."""
    return 0 if name == TEXTON else _flops(lambda: untrained_backbone(name), height, width)


def depth_flops(settings: DepthSettings) -> int:
    """Return the floating-point operations of one image through the depth network."""

    class Parts(nn.Module):
        """The network without its `autocast`, which knows no meta device."""

        def __init__(self) -> None:
            super().__init__()
            self.network = build_depth_network(settings)

        def forward(self, images: Tensor) -> Tensor:
            return self.network.depth_decoder(self.network.encoder(images))

    return _flops(Parts, settings.height, settings.width)


def _on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network of shapes alone, without memory for its weights."""
    with torch.device("meta"):
        return build().eval()


def _flops(build: Callable[[], nn.Module], height: int, width: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _on_meta(build)(torch.empty(1, 3, height, width, device="meta"))
    return int(counter.get_total_flops())
