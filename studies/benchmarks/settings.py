"""Settings of the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.errors import UserError
from pseudo_labels.steps.flags import Settings, flag


@dataclass(frozen=True)
class BenchmarkSettings(Settings):
    """Run."""

    repeats: int = flag(5, "times that each row is measured")
    seed: int = flag(0, "seed of what is measured on")
    json: Path | None = flag(None, "also write all numbers to this file")


@dataclass(frozen=True)
class QualitySettings(BenchmarkSettings):
    """Maps; of the fast rows the median run counts."""

    images: int = flag(3, "pairs of maps")
    height: int = flag(1024, "rows of a map, pixels")
    width: int = flag(2048, "columns of a map, pixels")
    segments: int = flag(60, "segments drawn in a map")


@dataclass(frozen=True)
class SizedSettings(BenchmarkSettings):
    """Images."""

    size: tuple[int, ...] = flag((1024, 2048), "pixels of an image, height and width", metavar="PIXELS")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.size) != 2:
            raise UserError(f"`size` {' '.join(map(str, self.size))}: give height and width")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.size[0], self.size[1]


@dataclass(frozen=True)
class Stage1Settings(SizedSettings):
    """Streets; of the passes of our way the best counts."""

    images: int = flag(3, "streets rendered")
    k: int = flag(300, "clusters")
    no_check: bool = flag(False, "do not compare the results")


@dataclass(frozen=True)
class TrainStepSettings(SizedSettings):
    """Network and batches; of the steps of each the median counts."""

    size: tuple[int, ...] = flag((640, 1280), "pixels of an image, height and width", metavar="PIXELS")
    batch_size: int = flag(2, "images per step")
    device: str = flag("auto", "cpu or cuda (auto: cuda if there is one)")
    config: str = flag("Panoptic-Cascade-Mask-R-CNN.yaml", "model YAML")
    things: int = flag(8, "thing pseudo-classes")
    stuffs: int = flag(19, "stuff pseudo-classes")
    objects: int = flag(12, "instances in an image")
    channels_last: bool = flag(False, "measure TRAINING.CHANNELS_LAST too")
    compile: bool = flag(False, "measure TRAINING.COMPILE too")
