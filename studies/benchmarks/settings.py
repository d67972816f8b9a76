"""Settings of the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import BATCH, CLUSTERS, COUNT, DEVICE, FRACTION, PATH, SEED, SIDE, TEXT, whole
from cups.errors import UserError
from pseudo_labels.steps.flags import Settings, flag


@dataclass(frozen=True)
class BenchmarkSettings(Settings):
    """Run."""

    repeats: int = flag(5, "times that each row is measured", allowed=COUNT)
    seed: int = flag(0, "seed of what is measured on", allowed=SEED)
    json: Path | None = flag(None, "also write all numbers to this file")


@dataclass(frozen=True)
class QualitySettings(BenchmarkSettings):
    """Maps; of the fast rows the median run counts."""

    images: int = flag(3, "pairs of maps", allowed=COUNT)
    height: int = flag(1024, "rows of a map, pixels", allowed=SIDE)
    width: int = flag(2048, "columns of a map, pixels", allowed=SIDE)
    segments: int = flag(60, "segments drawn in a map", allowed=CLUSTERS)
    noise: tuple[float, ...] = flag(
        (0.0, 0.1), "shares of noisy pixels in the predictions, a table for each", allowed=FRACTION
    )


@dataclass(frozen=True)
class SizedSettings(BenchmarkSettings):
    """Images."""

    size: tuple[int, ...] = flag(
        (1024, 2048), "pixels of an image, height and width", metavar="PIXELS", allowed=SIDE
    )

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

    images: int = flag(3, "streets rendered", allowed=COUNT)
    k: int = flag(300, "clusters", allowed=CLUSTERS)
    no_check: bool = flag(False, "do not compare the results")


SCALED = ("overclusters", "instances", "conversion", "textons")


@dataclass(frozen=True)
class ScalingSettings(SizedSettings):
    """Streets and workers; of the runs of each number of workers the best counts."""

    repeats: int = flag(2, "times that each row is measured", allowed=COUNT)
    frames: int = flag(24, "frames, of which the first that workers take do not count", allowed=COUNT)
    workers: int = flag(2, "worker processes that are compared with one", allowed=whole(2, 1024))
    k: int = flag(300, "clusters", allowed=CLUSTERS)
    only: tuple[str, ...] = flag(SCALED, "steps to measure", choices=SCALED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames <= 2 * self.workers:
            raise UserError(f"`frames` {self.frames}: give more than twice the {self.workers} `workers`")


@dataclass(frozen=True)
class TrainStepSettings(SizedSettings):
    """Network and batches; of the steps of each the median counts."""

    size: tuple[int, ...] = flag(
        (640, 1280), "pixels of an image, height and width", metavar="PIXELS", allowed=SIDE
    )
    batch_size: int = flag(2, "images per step", allowed=BATCH)
    device: str = flag("auto", "cpu or cuda (auto: cuda if there is one)", allowed=DEVICE)
    precision: str = flag("fp32", "numbers inside the network", choices=("fp32", "bf16"))
    config: str = flag("Panoptic-Cascade-Mask-R-CNN.yaml", "model YAML", allowed=PATH)
    overrides: tuple[str, ...] = flag(
        (), "KEY VALUE pairs of detectron2's config", metavar="WORD", allowed=TEXT
    )
    things: int = flag(8, "thing pseudo-classes", allowed=CLUSTERS)
    stuffs: int = flag(19, "stuff pseudo-classes", allowed=CLUSTERS)
    objects: int = flag(12, "instances in an image", allowed=COUNT)
    channels_last: bool = flag(False, "measure TRAINING.CHANNELS_LAST too")
    compile: bool = flag(False, "measure TRAINING.COMPILE too")


@dataclass(frozen=True)
class EvaluationSettings(SizedSettings):
    """Frames and network; one pass, after a frame that does not count."""

    images: int = flag(4, "streets rendered", allowed=COUNT)
    checkpoint: Path | None = flag(None, "network that is evaluated; without: random weights")
    config: str = flag(
        "Panoptic-Cascade-Mask-R-CNN.yaml", "model YAML of a network with random weights", allowed=PATH
    )
    things: int = flag(8, "its thing pseudo-classes", allowed=CLUSTERS)
    stuffs: int = flag(19, "its stuff pseudo-classes", allowed=CLUSTERS)


@dataclass(frozen=True)
class CostSettings(Settings):
    """Run; points in `runs` are measured again where code that they ran, or the machine, has changed."""

    runs: Path = flag(Path("runs/cost_curve"), "folder of what was measured", decides=False)
    output: Path = flag(Path("docs/performance.md"), "the page", decides=False)
    keep: bool = flag(
        False, "keep what other code or another machine measured; the page tells", decides=False
    )
    present: bool = flag(
        False,
        "measure nothing: write the page of the points that are there; it names the others",
        decides=False,
    )
    quick: bool = flag(False, "the two cheapest points of each curve alone")


GPU_PARTS = ("parity", "curve", "stage2", "stage3", "syncs", "profile")


@dataclass(frozen=True)
class GpuSettings(Settings):
    """Run; rows that stand in the output are not measured again."""

    output: Path = flag(Path("runs/gpu_benchmark"), "folder of gpu.md and gpu.json", decides=False)
    only: tuple[str, ...] = flag(GPU_PARTS, "parts to run", choices=GPU_PARTS, decides=False)
    quick: bool = flag(False, "batches of 1 and 4 alone, a tenth of `curve_steps`, nothing compiled")
    no_compile: bool = flag(
        False, "leave out the compiled trunk: a minute of compiling for each batch size", decides=False
    )
    batch_sizes: tuple[int, ...] = flag(
        (1, 4, 16), "images per step", metavar="N", decides=False, allowed=BATCH
    )
    repeats: int = flag(
        15, "timed steps of a row, of which the median counts; four before them warm up", allowed=COUNT
    )
    curve_steps: int = flag(300, "steps of each loss curve", allowed=COUNT)
    fixtures: Path = flag(Path("tests/parity"), "folder of the parity fixtures", decides=False)
    seed: int = flag(0, "seed of weights and images", allowed=SEED)
    device: str = flag("cuda", "where to run", choices=("cuda", "cpu"), hidden=True)
