"""Settings of the steps that turn label maps into other label maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import CLUSTERS, COUNT, NAME, PATH, SEED, whole
from cups.errors import UserError
from pseudo_labels.settings.groups import Found, Splitting, ThingChoice
from pseudo_labels.settings.outlines import LEAST_AREA
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.folders import (
    CAUSE_SEMANTICS,
    COMPONENTS_METHOD,
    DEFAULT_K,
    DEFAULT_METHOD,
    DEFAULT_SEMANTICS,
    DEPTH_FOLDER,
    INSTANCE_PREFIX,
    PANOPTIC_PREFIX,
    VOTED_PREFIX,
    cups_folder,
    instance_folder,
    mapped_semantics,
    object_instances,
    object_semantics,
    panoptic_folder,
    raw_semantics,
    tail,
)
from pseudo_labels.steps.frames import SPLITS

DEFAULT_CLASSES = 19
"""Classes of semantics that do not say how many they have: the trainIds."""
OBJECT_CLASSES = 40
"""Classes of objects unless told otherwise: of 20, 27, 40 and 60, the last two were best on toy streets."""
INSTANCE_MEANING = f"instance folder (default: {INSTANCE_PREFIX}{DEFAULT_METHOD}_... of the semantics)"


@dataclass(frozen=True)
class RemapSettings(Settings):
    """Classes."""

    semantic_subdir: str = flag(CAUSE_SEMANTICS, "27-class folder", allowed=NAME)
    output_subdir: str = flag("pseudo_semantic_mapped_cause27", "trainId folder", allowed=NAME)


@dataclass(frozen=True)
class VoteSettings(Settings):
    """Votes."""

    semantic_subdir: str = flag(DEFAULT_SEMANTICS, "semantics of single frames", allowed=NAME)
    num_semantic_classes: int | None = flag(
        None,
        "number of pseudo-classes (default: as the folder says, else the highest plus one)",
        allowed=CLUSTERS,
    )
    reach: int = flag(3, "frames that vote, before and after each frame", allowed=whole(1, 10))
    vote_on: str = flag(
        "stuff",
        "stuff: things stay as they are, for moving objects lose votes; all: things too",
        choices=("stuff", "all"),
    )

    @property
    def folder(self) -> str:
        """Name of the output folder."""
        return VOTED_PREFIX + tail(self.semantic_subdir)


@dataclass(frozen=True)
class PanopticSettings(ThingChoice):
    """Labels to merge."""

    instance_subdir: str | None = flag(None, INSTANCE_MEANING, allowed=NAME)
    num_semantic_classes: int | None = flag(
        None,
        f"number of pseudo-classes (default: what the semantic folder says, or {DEFAULT_CLASSES})",
        allowed=whole(1, 15999),
    )
    name: str | None = flag(
        None,
        f"output folder pseudo_panoptic_{{NAME}} (default: {DEFAULT_METHOD}_... of the semantics)",
        allowed=NAME,
    )

    @property
    def instances(self) -> str:
        """Name of the instance folder."""
        return self.instance_subdir or instance_folder(DEFAULT_METHOD, self.semantic_subdir)

    @property
    def folder(self) -> str:
        """Name of the output folder."""
        named = self.name is not None
        return (
            f"{PANOPTIC_PREFIX}{self.name}"
            if named
            else panoptic_folder(DEFAULT_METHOD, self.semantic_subdir)
        )


@dataclass(frozen=True)
class InstanceSettings(Splitting, Found):
    """Instances by depth."""

    no_depth: bool = flag(False, "plain connected components")
    method_name: str | None = flag(
        None,
        f"pseudo_instance_{{NAME}} (default: {DEFAULT_METHOD}_, or cc_ without depth, ... of the semantics)",
        allowed=NAME,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.no_depth and self.proposals == "objects":
            raise UserError("`proposals` objects: comes from depth; leave out `no_depth`")

    @property
    def folder(self) -> str:
        """Name of the output folder."""
        if self.method_name is not None:
            return INSTANCE_PREFIX + self.method_name
        return instance_folder(COMPONENTS_METHOD if self.no_depth else DEFAULT_METHOD, self.semantic_subdir)


@dataclass(frozen=True)
class ObjectSettings(ThingChoice):
    """Classes of objects."""

    instance_subdir: str | None = flag(None, INSTANCE_MEANING, allowed=NAME)
    depth_subdir: str = flag(DEPTH_FOLDER, "depth folder", allowed=PATH)
    num_semantic_classes: int | None = flag(
        None, "number of pseudo-classes (default: as the semantic folder says)", allowed=CLUSTERS
    )
    object_classes: int = flag(OBJECT_CLASSES, "number of classes of things", allowed=CLUSTERS)
    fit_split: str = flag("train", "split that the classes are fitted on", choices=(*SPLITS, "all"))
    keep_outlines: bool = flag(
        False, "leave the outlines of instances as they are (else they follow the edges of the image)"
    )
    min_area: int = flag(
        LEAST_AREA["log"],
        "smaller instances are dropped; pixels of a 512-row image",
        allowed=COUNT,
    )
    seed: int = flag(0, "seed of everything random", allowed=SEED)

    @property
    def instances(self) -> str:
        """Name of the folder of the instances that are read."""
        return self.instance_subdir or instance_folder(DEFAULT_METHOD, self.semantic_subdir)

    @property
    def folder(self) -> str:
        """Name of the output folder of semantics."""
        return object_semantics(self.semantic_subdir)

    @property
    def instance_output(self) -> str:
        """Name of the output folder of instances."""
        return object_instances(self.instances, self.semantic_subdir)


@dataclass(frozen=True)
class CupsSettings(ThingChoice):
    """Labels to convert."""

    semantic_subdir: str | None = flag(  # type: ignore[assignment]
        None,
        f"semantic folder (default: {DEFAULT_SEMANTICS}, or pseudo_semantic_raw_k{{N}} for N classes)",
        allowed=NAME,
    )
    instance_subdir: str | None = flag(None, f"{INSTANCE_MEANING}, made where it is missing", allowed=NAME)
    trainid_input: bool = flag(
        False,
        f"the semantics hold the 19 trainIds (`semantic_subdir` is {mapped_semantics(DEFAULT_K)} then, "
        f"else the clusters of {DEFAULT_SEMANTICS}, as clusters)",
        decides=False,
    )
    num_semantic_classes: int | None = flag(
        None,
        "the semantics hold N pseudo-classes (default: what `semantic_subdir` says)",
        metavar="N",
        allowed=CLUSTERS,
    )
    output_dir: Path | None = flag(
        None, "flat output folder (default: cups_pseudo_labels_... of the semantics)", decides=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        count = self.num_semantic_classes
        if self.trainid_input and count is not None:
            raise UserError("`trainid_input`: give either it or `num_semantic_classes`")

    def semantics(self, root: Path) -> str:
        """Return the name of the semantic folder under `root`."""
        if self.semantic_subdir is not None:
            return self.semantic_subdir
        if self.num_semantic_classes is not None:
            return raw_semantics(self.num_semantic_classes)
        mapped = mapped_semantics(DEFAULT_K)
        return mapped if self.trainid_input and (root / mapped).is_dir() else DEFAULT_SEMANTICS

    def instances(self, semantics: str) -> str:
        """Return the name of the instance folder of semantics."""
        return self.instance_subdir or instance_folder(DEFAULT_METHOD, semantics)

    def labels(self, root: Path, semantics: str) -> Path:
        """Return the folder that is written."""
        return self.output_dir or root / cups_folder(semantics)


@dataclass(frozen=True)
class OtherLabelSettings(Settings):
    """Labels to convert."""

    labels: Path = flag(
        meaning="JSON of a COCO panoptic set, its folder, or a folder of class ids with instances",
        decides=False,
    )
    output_dir: Path | None = flag(
        None,
        "flat output folder (default: cups_pseudo_labels_... of the labels' folder and name)",
        decides=False,
    )
    only_labelled: bool = flag(False, "leave out images without labels", decides=False)

    def target(self, root: Path) -> Path:
        """Return the folder that is written."""
        labels = self.labels.resolve()
        return self.output_dir or root / cups_folder(f"{labels.parent.name}_{labels.stem}")
