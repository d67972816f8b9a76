"""Settings of the steps that turn label maps into other label maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.errors import UserError
from pseudo_labels.settings.groups import Splitting, ThingChoice
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.folders import CAUSE_SEMANTICS, DEFAULT_METHOD, INSTANCE_PREFIX, MAPPED_SEMANTICS

DEFAULT_CLASSES = 19
"""Classes of semantics that do not say how many they have: the trainIds."""


@dataclass(frozen=True)
class RemapSettings(Settings):
    """Classes."""

    semantic_subdir: str = flag(CAUSE_SEMANTICS, "27-class folder")
    output_subdir: str = flag("pseudo_semantic_mapped_cause27", "trainId folder")


@dataclass(frozen=True)
class PanopticSettings(ThingChoice):
    """Labels to merge."""

    instance_subdir: str = flag(INSTANCE_PREFIX + DEFAULT_METHOD, "instance folder")
    num_semantic_classes: int | None = flag(
        None, f"number of pseudo-classes (default: what the semantic folder says, or {DEFAULT_CLASSES})"
    )
    name: str = flag(DEFAULT_METHOD, "output folder pseudo_panoptic_{NAME}")

    def __post_init__(self) -> None:
        super().__post_init__()
        count = self.num_semantic_classes
        if count is not None and not 0 < count < 16000:
            raise UserError(f"`num_semantic_classes` {count}: must be between 1 and 15999")


@dataclass(frozen=True)
class InstanceSettings(Splitting, ThingChoice):
    """Instances by depth."""

    no_depth: bool = flag(False, "plain connected components")
    method_name: str | None = flag(
        None, "pseudo_instance_{NAME} (default: depth_guided, or cc without depth)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.no_depth and self.proposals == "objects":
            raise UserError("`proposals` objects: comes from depth; leave out `no_depth`")

    @property
    def method(self) -> str:
        """Name of the method in that of the folder."""
        return self.method_name or ("cc" if self.no_depth else DEFAULT_METHOD)


@dataclass(frozen=True)
class CupsSettings(ThingChoice):
    """Labels to convert."""

    semantic_subdir: str | None = flag(  # type: ignore[assignment]
        None, f"semantic folder (default: {MAPPED_SEMANTICS}, or pseudo_semantic_raw_k{{N}} for N classes)"
    )
    instance_subdir: str = flag(INSTANCE_PREFIX + DEFAULT_METHOD, "instance folder")
    trainid_input: bool = flag(False, "the semantics hold the 19 trainIds", decides=False)
    num_semantic_classes: int | None = flag(
        None, "the semantics hold N pseudo-classes (default: what `semantic_subdir` says)", metavar="N"
    )
    output_dir: Path | None = flag(
        None, "flat output folder (default: cups_pseudo_labels/ under the output root)", decides=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        count, told = self.num_semantic_classes, self.trainid_input or self.semantic_subdir is not None
        if (self.trainid_input and count is not None) or (count is None and not told):
            raise UserError("`trainid_input`: give either it or `num_semantic_classes`")
        if count is not None and not 0 < count < 65535:
            raise UserError(f"`num_semantic_classes` {count}: must be between 1 and 65534")

    @property
    def semantics(self) -> str:
        """Name of the semantic folder."""
        mapped = (
            MAPPED_SEMANTICS if self.trainid_input else f"pseudo_semantic_raw_k{self.num_semantic_classes}"
        )
        return self.semantic_subdir or mapped
