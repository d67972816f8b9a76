"""Settings of everything that scores pseudo-labels, or looks for defects in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import CLUSTERS, COUNT, FRACTION, NAME, SHARE, WORKERS, within
from cups.errors import UserError
from cups.taxonomy import ClassSet, chosen_classes
from pseudo_labels.settings.groups import Cutting, Semantics, ThingChoice
from pseudo_labels.settings.labels import DEFAULT_CLASSES, INSTANCE_MEANING
from pseudo_labels.settings.outlines import AREA_GRID
from pseudo_labels.steps.flags import Settings, flag, other_default
from pseudo_labels.steps.folders import (
    DEFAULT_METHOD,
    DEFAULT_SEMANTICS,
    instance_folder,
    raw_semantics,
)
from pseudo_labels.steps.frames import ROOT_VARIABLE, SPLITS, Frame, FrameSource
from pseudo_labels.steps.options import ShardRun

CLASS_SETS = (27, 19, 7)
LABELS = ("auto", "trainid", "class27", "clusters")
SEMANTIC_PROTOCOLS = ("semantic-27-crop320",)
"""Those of `cups.metrics.protocol.NAMED` whose task is semantic."""
DEFAULT_K = 50


@dataclass(frozen=True)
class ScoredImages(Settings):
    """Data."""

    cityscapes_root: Path = flag(meaning="folder with leftImg8bit/, gtFine/", environment=ROOT_VARIABLE)
    split: str = flag("val", "split with ground truth", allowed=NAME)
    output_root: Path | None = flag(None, "where the label folders are (default: `cityscapes_root`)")
    max_images: int | None = flag(None, "use only the first N images", metavar="N", allowed=COUNT)
    num_workers: int = flag(0, "reading processes", allowed=WORKERS)
    results: Path | None = flag(None, "path without suffix (default: evaluation/NAME_SPLIT)")

    @property
    def label_root(self) -> Path:
        """The folder that holds the label folders."""
        return self.output_root or self.cityscapes_root


@dataclass(frozen=True)
class ScoredClasses(Settings):
    """Classes to score."""

    num_classes: int = flag(19, "classes to score", choices=CLASS_SETS)


@dataclass(frozen=True)
class ClassChoice(ScoredClasses):
    """Classes to score."""

    classes: Path | None = flag(None, "class file (YAML) instead of `num_classes`", metavar="FILE")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes is not None and self.num_classes != 19:
            raise UserError("`num_classes`: give either it or `classes`")

    @property
    def scored(self) -> ClassSet:
        """The classes."""
        return chosen_classes(self.num_classes, self.classes)

    @property
    def has_train_ids(self) -> bool:
        """Whether the 19 classes are scored."""
        return self.num_classes == 19 and self.classes is None


@dataclass(frozen=True)
class PanopticScores(ClassChoice):
    """Classes to score, and how pseudo-classes are matched to them."""

    matching: str = flag("separate", "things and stuff apart or not", choices=("separate", "joint"))


@dataclass(frozen=True)
class MatchSplit(Settings):
    """Images that matchings are fitted on."""

    match_split: str | None = flag(
        None,
        "split that semantic matchings are fitted on (default: the images scored, which flatters: with many "
        "clusters, a matching remembers)",
        allowed=NAME,
    )


@dataclass(frozen=True)
class SavedNames(Settings):
    """Names of clusters."""

    save_names: Path | None = flag(
        None,
        "write the class that the Hungarian matching gives to each cluster to this JSON file, for "
        "generate_overclustered_semantics.py `names` (ground truth: no label-free run may use it)",
        metavar="FILE",
    )

    def require_train_ids(self, scored: bool) -> None:
        """Refuse to save names where the 19 classes are not scored.

        Raises:
            UserError: names are wanted, and other classes are scored.
        """
        if self.save_names is not None and not scored:
            raise UserError(
                "`save_names`: names are the 19 trainIds; leave out `num_classes`, `classes` and `protocol`"
            )


@dataclass(frozen=True)
class ThingShare(Settings):
    """Things of a folder in the CUPS format."""

    thing_stuff_threshold: float | None = flag(
        None, "DATA.THING_STUFF_THRESHOLD of the training (default: the folder's own split)", allowed=FRACTION
    )


@dataclass(frozen=True)
class PseudoLabelScores(PanopticScores, ThingShare, ThingChoice):
    """Labels to score."""

    instance_subdir: str | None = flag(None, INSTANCE_MEANING, allowed=NAME)
    panoptic_subdir: str | None = flag(None, "panoptic folder instead", allowed=NAME)
    cups_dir: Path | None = flag(None, "folder in the CUPS format instead")
    num_semantic_classes: int | None = flag(
        None,
        f"pseudo-classes (default: what the semantic folder says, or {DEFAULT_CLASSES})",
        allowed=CLUSTERS,
    )

    @property
    def instances(self) -> str:
        """Name of the instance folder."""
        return self.instance_subdir or instance_folder(DEFAULT_METHOD, self.semantic_subdir)


@dataclass(frozen=True)
class CascadeScores(MatchSplit, PanopticScores, ThingShare):
    """Labels to score."""

    cups_dir: Path = flag(meaning="folder in the CUPS format")
    only_labelled: bool = flag(False, "leave out images without labels")


@dataclass(frozen=True)
class OverclusterScores(SavedNames, MatchSplit, PanopticScores, ThingShare, ThingChoice):
    """Labels to score."""

    semantic_subdir: str | None = flag(  # type: ignore[assignment]
        None, "cluster folder (default: pseudo_semantic_raw_k{K})", allowed=NAME
    )
    k: int | None = flag(
        None, f"number of clusters (default: what `semantic_subdir` says, or {DEFAULT_K})", allowed=CLUSTERS
    )
    instance_subdir: str | None = flag(None, INSTANCE_MEANING, allowed=NAME)
    statistics: Path | None = flag(None, "folder in the CUPS format that tells the things")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_train_ids(self.has_train_ids)

    @property
    def semantics(self) -> str:
        """Name of the cluster folder."""
        return self.semantic_subdir or raw_semantics(self.k or DEFAULT_K)

    @property
    def instances(self) -> str:
        """Name of the instance folder."""
        return self.instance_subdir or instance_folder(DEFAULT_METHOD, self.semantics)


@dataclass(frozen=True)
class SemanticScores(SavedNames, MatchSplit, ClassChoice, Semantics):
    """Labels to score."""

    cups_dir: Path | None = flag(None, "folder in the CUPS format instead")
    labels: str = flag(
        "auto", "what the ids are (auto: what the folder says; a CUPS folder holds clusters)", choices=LABELS
    )
    num_semantic_classes: int | None = flag(
        None, "clusters (default: what the folder says)", allowed=CLUSTERS
    )
    protocol: str | None = flag(
        None, "a published protocol instead of `num_classes`", choices=SEMANTIC_PROTOCOLS
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cups_dir is not None and self.semantic_subdir != DEFAULT_SEMANTICS:
            raise UserError("`semantic_subdir`: give either it or `cups_dir`")
        if self.protocol is not None and (self.num_classes != 19 or self.classes is not None):
            name = "num_classes" if self.classes is None else "classes"
            raise UserError(f"`{name}`: give either it or `protocol`")
        self.require_train_ids(self.has_train_ids and self.protocol is None)


@dataclass(frozen=True)
class SweptImages(FrameSource):
    """Data."""

    split: str = flag(
        "auto",
        "split of leftImg8bit/ (auto: val if the semantics have it, else train)",
        choices=(*SPLITS, "all", "auto"),
        decides=False,
    )

    def __post_init__(self) -> None:
        if self.image_dir is not None:
            raise UserError("`image_dir`: has no ground truth to compare with; give `cityscapes_root`")
        super().__post_init__()

    def frames(self) -> list[Frame]:
        """Return the frames, sorted; those of val while nothing has decided on the split."""
        return self.of_split("val").frames() if self.split == "auto" else super().frames()

    def settled(self, semantics: Path) -> FrameSource:
        """Return the source with a split that a semantic folder has.

        semantics: the folder, with a sub-folder for each split.
        """
        if self.split != "auto":
            return self
        only_train = (semantics / "train").is_dir() and not (semantics / "val").is_dir()
        return self.of_split("train" if only_train else "val")


@dataclass(frozen=True)
class SweepRun(ShardRun):
    """Run, over the images one by one."""

    num_workers: int = other_default(ShardRun, "num_workers", len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class SweepSettings(ScoredClasses, Cutting, ThingChoice):
    """Grid of the sweep."""

    semantic_subdir: str = other_default(ThingChoice, "semantic_subdir", "pseudo_semantic_raw_k50")
    grad_thresholds: tuple[float, ...] | None = flag(
        None,
        "steps of a cut (default: a grid for the kind of depth; with linear edges the published one)",
        allowed=within(above=0, most=1000),
    )
    min_areas: tuple[int, ...] | None = flag(
        None,
        "least areas in pixels of a 512-row image "
        f"(default: {' '.join(map(str, AREA_GRID))}; without either flag also the generator's defaults)",
        allowed=COUNT,
    )
    no_cc_baseline: bool = flag(False, "leave out connected components")
    num_semantic_classes: int | None = flag(
        None, "pseudo-classes (default: what the semantic folder says)", allowed=CLUSTERS
    )
    output_dir: Path | None = flag(
        None,
        "(default: sweeps/{semantics}+{depth} under the output root; of another grid with what differs)",
        decides=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (("grad_thresholds", self.grad_thresholds), ("min_areas", self.min_areas)):
            if values is not None and len(set(values)) < len(values):
                words = " ".join(map(str, values))
                raise UserError(f"`{name}` {words}: holds a value twice; leave it out once")


@dataclass(frozen=True)
class DiagnosisSettings(ThingShare):
    """Folder to look at, and what counts as a defect."""

    cups_dir: Path = flag(meaning="folder in the CUPS format")
    data_root: Path = flag(meaning="Cityscapes root, or a plain folder of images", environment=ROOT_VARIABLE)
    split: str | None = flag(None, "split whose images must all have labels", allowed=NAME)
    scale: float = flag(0.625, "DATA.SCALE of the training", allowed=within(above=0, most=8))
    reach: float = flag(0.25, "largest offset tried, share of the height", allowed=SHARE)
    tolerance: float = flag(0.01, "offset allowed, share of the height", allowed=FRACTION)
    no_alignment: bool = flag(False, "do not compare borders with edges")
    max_images: int | None = flag(None, "use only the first N images", metavar="N", allowed=COUNT)
    num_workers: int = flag(0, "reading processes", allowed=WORKERS)
    results: Path | None = flag(
        None, "path without suffix (default: evaluation/NAME_diagnosis beside the folder)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tolerance >= self.reach:
            raise UserError(f"`tolerance` {self.tolerance}: must be below `reach` {self.reach}")
