"""Groups of settings that several steps share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from cups.errors import UserError
from pseudo_labels.steps.flags import Settings, flag, require_at_least
from pseudo_labels.steps.folders import DEFAULT_SEMANTICS, DEPTH_FOLDER

T = TypeVar("T", bound="ThingChoice")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
PROPOSALS = ("classes", "things", "objects")


@dataclass(frozen=True)
class Semantics(Settings):
    """Semantic labels that a step reads."""

    semantic_subdir: str = flag(DEFAULT_SEMANTICS, "semantic folder")


@dataclass(frozen=True)
class ThingChoice(Semantics):
    """Semantic labels, and which of their classes are things."""

    thing_classes: tuple[int, ...] | None = flag(None, "ids of the thing classes")
    split_json: Path | None = flag(
        # What it says is recorded as `thing_classes`, and that decides.
        None,
        "from classify_stuff_things.py (default: the folder's, made where it is missing)",
        decides=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.thing_classes is not None and self.split_json is not None:
            raise UserError("`thing_classes`: give either it or `split_json`")

    @property
    def split_files(self) -> list[Path]:
        """The split file that was named, for provenance."""
        return [] if self.split_json is None else [self.split_json]

    def with_things(self: T, things: tuple[int, ...] | None) -> T:
        """Return these settings as they are recorded, with the thing classes that were found.

        So a later run with another split does not take the files of this one for its own.
        """
        return replace(self, thing_classes=things, split_json=None)


@dataclass(frozen=True)
class DepthMaps(Settings):
    """Depth."""

    depth_subdir: str = flag(DEPTH_FOLDER, "depth folder")
    depth_blur: float = flag(
        0.0, "of object proposals: share of the height over which outlines are blurred (stereo 0)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.depth_blur <= 0.2:
            raise UserError(f"`depth_blur` {self.depth_blur}: must lie in 0-0.2")


@dataclass(frozen=True)
class Outlines(DepthMaps):
    """Outlines in depth."""

    grad_threshold: float = flag(0.15, "log-depth step between two surfaces: 0.1 = 10 %%, 0.7 = doubling")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grad_threshold <= 0:
            raise UserError(f"`grad_threshold` {self.grad_threshold}: must be positive")


@dataclass(frozen=True)
class Device(Settings):
    """Where a network runs."""

    device: str = flag("auto", "cpu, cuda, cuda:1, ... (auto: cuda if there is one)", decides=False)


@dataclass(frozen=True)
class Precision(Device):
    """How exactly a network computes that is not trained."""

    precision: str = flag(
        "auto",
        "numbers inside the network (auto: bf16 or fp16 on a GPU, fp32 on a CPU)",
        choices=PRECISIONS,
    )


@dataclass(frozen=True)
class Batch(Device):
    """How many images a network takes."""

    batch_size: int = flag(4, "images of one size that the network takes at once", decides=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "batch_size")


@dataclass(frozen=True)
class Inference(Precision, Batch):
    """How a network runs that is not trained."""


@dataclass(frozen=True)
class Seed(Settings):
    """Randomness."""

    seed: int = flag(0, "seed of everything random")


@dataclass(frozen=True)
class Cutting(DepthMaps):
    """How thing regions are split by depth, whatever the threshold.

    `proposals` says what is split. "classes": the regions of each thing class. "things": the union of them,
    for overclustered semantics in which one object has several classes. "objects": nothing; depth alone
    proposes the masks (`cups.ops.ground.object_regions`), and those with thing pixels on at least
    `min_thing_share` of their area are kept. In the last two each instance takes its majority class in the
    next step.
    """

    dilation: int = flag(3, "reach in pixels when cut pixels are given back")
    sigma: float = flag(1.0, "depth smoothing, pixels of a 512-row image")
    proposals: str = flag(
        "classes",
        "split each thing class (sharp semantics), their union, or let depth propose (blurred ones)",
        choices=PROPOSALS,
    )
    min_thing_share: float = flag(0.3, "with objects: least share of thing pixels in one")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, self, "sigma", "dilation")
        if not 0 < self.min_thing_share <= 1:
            raise UserError(f"`min_thing_share` {self.min_thing_share}: must be above 0, at most 1")


@dataclass(frozen=True)
class Splitting(Outlines, Cutting):
    """How thing regions are split by depth."""

    min_area: int = flag(1000, "pixels at the size of the label files; smaller instances are dropped")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "min_area")
