"""What the ids of a label folder mean: written into its `provenance.json`, read by every later step."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.provenance import read_provenance
from cups.taxonomy import void_value

KINDS = ("trainId", "cause27", "clusters")
"""The 19 trainIds; CAUSE's 27 classes in their order; clusters without a name."""
ORDERED = "in_class_order"
"""Key that tells CAUSE's classes from the rows of its probe, which versions before called "cause27" too."""
MOST_CLASSES = 65535
"""Void of 16-bit files: ids lie below."""


@dataclass(frozen=True)
class LabelKind:
    """Kind (of `KINDS`) and number of the classes of a folder of semantic maps."""

    kind: str
    num_classes: int

    @property
    def void(self) -> int:
        """The id of pixels without a class."""
        return void_value(self.num_classes)

    def content(self) -> dict[str, Any]:
        """Return what `provenance.json` holds under "labels"."""
        order = {ORDERED: True} if self.kind == "cause27" else {}
        return {**asdict(self), "void": self.void, **order}


def label_kind(folder: Path) -> LabelKind | None:
    """Return what `provenance.json` of a semantic folder says of its labels, None where nothing tells.

    Folders of versions before 0.2 do not say it; of those the name tells. Rows of CAUSE's probe have no order
    (they start at random, and are matched anew by every evaluation): a folder that calls them classes without
    saying that they were put into order holds clusters.

    Raises:
        UserError: a file that is not valid.
    """
    return _stated_kind(folder) or _of_old_name(folder.name)


def number_of_classes(folder: Path, given: int | None, name: str = "num_semantic_classes") -> int | None:
    """Return the number of classes of a semantic folder, None where nothing tells.

    Args:
        given: what the user says; without it, what the folder says (`label_kind`).
        name: of the setting that holds `given`.

    Raises:
        UserError: an impossible number, or another than `provenance.json` says.
    """
    kind = label_kind(folder)
    return stated_classes(folder, given, name) or (None if kind is None else kind.num_classes)


def stated_classes(folder: Path, given: int | None, name: str = "num_semantic_classes") -> int | None:
    """Return the number of classes like `number_of_classes`, but ask no name of a folder.

    For steps that took another number for folders of versions before 0.2: their outputs are resumed.
    """
    if given is not None and not 0 < given < MOST_CLASSES:
        raise UserError(f"`{name}` {given}: must be between 1 and {MOST_CLASSES - 1}")
    stated = _stated_kind(folder)
    if stated is None or given in (None, stated.num_classes):
        return given if stated is None else stated.num_classes
    raise UserError(
        f"`{name}` {given}: but {folder}/provenance.json says {stated.num_classes} classes ({stated.kind}); "
        "leave it out, or check the folder"
    )


def _stated_kind(folder: Path) -> LabelKind | None:
    stored = (read_provenance(folder) or {}).get("labels")
    if stored is None:
        return None
    try:
        kind = LabelKind(str(stored["kind"]), int(stored["num_classes"]))
        if kind.kind == "cause27" and stored.get(ORDERED) is not True:
            kind = LabelKind("clusters", kind.num_classes)
    except (KeyError, TypeError, ValueError, AttributeError):
        kind = LabelKind("", 0)
    if kind.kind not in KINDS or not 0 < kind.num_classes < MOST_CLASSES:
        raise UserError(f"{folder}/provenance.json: does not say what the labels are; generate them again")
    return kind


def _of_old_name(name: str) -> LabelKind | None:
    name = name.replace("pseudo_semantic_refined_", "pseudo_semantic_")
    if name == "pseudo_semantic_cause27":
        return LabelKind("clusters", 27)
    if name.startswith("pseudo_semantic_mapped_"):
        return LabelKind("trainId", 19)
    clusters = re.fullmatch(r"pseudo_semantic_raw_k(\d+)(?:_merged(\d+))?", name)
    return LabelKind("clusters", int(clusters[2] or clusters[1])) if clusters else None
