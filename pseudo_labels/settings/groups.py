"""Groups of settings that several steps share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from cups.allowed import BATCH, CLASS, COUNT, DEVICE, FRACTION, NAME, PATH, ROWS, SEED, SHARE, within
from cups.errors import UserError
from pseudo_labels.settings.outlines import EDGES, LEAST_AREA, LINEAR_REACH, OUTLINES, by_kind, proposals_of
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.folders import DEFAULT_SEMANTICS, DEPTH_FOLDER

C = TypeVar("C", bound="Cutting")
S = TypeVar("S", bound="Splitting")
T = TypeVar("T", bound="ThingChoice")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
LEAST_FOUND = 0.05
"""Share of images with an instance below which a step says that it found nothing. Stage 2 leaves out images
without one: under one in twenty, it would train on next to nothing of what it was given."""
PROPOSALS = ("classes", "things", "objects")


@dataclass(frozen=True)
class Semantics(Settings):
    """Semantic labels that a step reads."""

    semantic_subdir: str = flag(DEFAULT_SEMANTICS, "semantic folder", allowed=NAME)


@dataclass(frozen=True)
class ThingChoice(Semantics):
    """Semantic labels, and which of their classes are things."""

    thing_classes: tuple[int, ...] | None = flag(None, "ids of the thing classes", allowed=CLASS)
    split_json: Path | None = flag(
        # What it says is recorded as `thing_classes`, and that decides.
        None,
        "from classify_stuff_things.py (default: the folder's, made where it is missing)",
        decides=False,
    )

    accept_nothing: bool = flag(
        False, "go on where no thing is found, or next to no instance (else: exit code 3)", decides=False
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
class Found(ThingChoice):
    """Nothing found."""

    least_found: float = flag(
        LEAST_FOUND,
        "share of images that have an instance, below which nothing was found",
        decides=False,
        allowed=FRACTION,
    )


@dataclass(frozen=True)
class DepthMaps(Settings):
    """Depth."""

    depth_subdir: str = flag(DEPTH_FOLDER, "depth folder", allowed=PATH)
    depth_blur: float | None = flag(
        None,
        f"share of the height over which outlines in depth are blurred (default: {by_kind('blur')})",
        allowed=within(0, 0.2),
    )


@dataclass(frozen=True)
class Outlines(DepthMaps):
    """Outlines in depth."""

    grad_threshold: float | None = flag(
        None,
        "log-depth step between two surfaces: 0.1 = 10 %%, 0.7 = doubling "
        f"(default: {by_kind('cut')}; of objects that depth proposes, {by_kind('propose')})",
        allowed=within(above=0, most=1000),
    )


@dataclass(frozen=True)
class Device(Settings):
    """Where a network runs."""

    device: str = flag(
        "auto", "cpu, cuda, cuda:1, ... (auto: cuda if there is one)", decides=False, allowed=DEVICE
    )


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

    batch_size: int = flag(
        4,
        "images of one size that the network takes at once on a GPU; on a CPU one",
        decides=False,
        allowed=BATCH,
    )


@dataclass(frozen=True)
class Inference(Precision, Batch):
    """How a network runs that is not trained."""


@dataclass(frozen=True)
class Seed(Settings):
    """Randomness."""

    seed: int = flag(0, "seed of everything random", allowed=SEED)


@dataclass(frozen=True)
class Cutting(DepthMaps):
    """How thing regions are split by depth, whatever the threshold.

    `edge` says what an edge is (`cups.ops.depth_edges`). "log": a step of log depth. "linear": the published
    definition, Sobel magnitude on depth scaled to 0-1; pieces are then 4-connected.

    `proposals` says what is split. "classes": the regions of each thing class. "things": the union of them,
    for overclustered semantics in which one object has several classes. "objects": nothing; depth alone
    proposes the masks (`cups.ops.ground.object_regions`), and those with thing pixels on at least
    `min_thing_share` of their area are kept. In the last two each instance takes its majority class in the
    next step.

    What is None is decided by the kind of depth and of semantics: see `for_depth`.
    """

    edge: str = flag("log", "step of log depth, or Sobel of depth in 0-1 as published", choices=EDGES)
    dilation: int | None = flag(
        None,
        "reach when cut pixels are given back, pixels of a 512-row image "
        f"(default: all; {LINEAR_REACH} with linear edges)",
        allowed=ROWS,
    )
    sigma: float = flag(1.0, "depth smoothing, pixels of a 512-row image", allowed=within(0, 1000))
    proposals: str | None = flag(
        None,
        "split each thing class, their union, or let depth propose (default: classes where they have names "
        "or edges are linear; else objects, without depth things)",
        choices=PROPOSALS,
    )
    min_thing_share: float = flag(0.3, "with objects: least share of thing pixels in one", allowed=SHARE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.edge == "linear" and self.proposals == "objects":
            raise UserError("`edge` linear: splits classes or things; leave out `proposals` objects")

    def for_depth(self: C, source: str | None, named: bool) -> C:
        """Return these settings with what is None decided, as they are recorded.

        Args:
            source: kind of depth (of `OUTLINES`); None: no depth, whose settings stay undecided.
            named: whether the semantic classes have names, so that an object lies in one of them.
        """
        proposals = self.proposals or proposals_of(self.edge, named, source is not None)
        linear = self.edge == "linear" and self.dilation is None
        settings = replace(self, proposals=proposals, dilation=LINEAR_REACH if linear else self.dilation)
        if source is None or settings.depth_blur is not None:
            return settings
        return replace(settings, depth_blur=OUTLINES[source].blur)


@dataclass(frozen=True)
class Splitting(Outlines, Cutting):
    """How thing regions are split by depth."""

    min_area: int | None = flag(
        None,
        "smaller instances are dropped; pixels of a 512-row image, so 4 of a 1024-row one are 1 "
        f"(default: {LEAST_AREA['log']}, with linear edges {LEAST_AREA['linear']})",
        allowed=COUNT,
    )

    def for_depth(self: S, source: str | None, named: bool) -> S:
        """See `Cutting.for_depth`; threshold and least area too."""
        settings = super().for_depth(source, named)
        step = settings.grad_threshold
        if step is None and source is not None:
            step = OUTLINES[source].step(settings.edge, settings.proposals or "")
        area = LEAST_AREA[settings.edge] if settings.min_area is None else settings.min_area
        return replace(settings, grad_threshold=step, min_area=area)
