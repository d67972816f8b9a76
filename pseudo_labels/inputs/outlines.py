"""What folders say that decides how outlines are found: the kind of depth, and whether classes have names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeVar

from cups.errors import UserError
from cups.io.provenance import read_provenance
from pseudo_labels.settings.groups import Cutting
from pseudo_labels.settings.outlines import NETWORK, OUTLINES, STEREO
from pseudo_labels.steps.flags import settings_of
from pseudo_labels.steps.label_kind import label_kind

C = TypeVar("C", bound=Cutting)
log = logging.getLogger(__name__)


def depth_source(folder: Path) -> str:
    """Return the kind of depth (of `OUTLINES`) in a folder.

    Folders of version 0.2 tell it by their recorded arguments; depth of which nothing is known counts as a
    network's.

    Raises:
        UserError: a `provenance.json` that is not valid.
    """
    provenance = read_provenance(folder) or {}
    stated, arguments = provenance.get("depth"), provenance.get("arguments")
    if stated is None:
        stereo = isinstance(arguments, dict) and arguments.get("source") == "disparity"
        return STEREO if stereo else NETWORK
    source = stated.get("source") if isinstance(stated, dict) else None
    if source not in OUTLINES:
        raise UserError(f"{folder}/provenance.json: does not say what depth it is; generate it again")
    return str(source)


def classes_have_names(folder: Path) -> bool:
    """Return whether an object lies in one class of a semantic folder, not in several clusters.

    A folder that does not say what its ids are counts as one with names.
    """
    kind = label_kind(folder)
    return kind is None or kind.kind == "trainId"


def decide(settings: C, semantics: Path, depth: Path | None) -> C:
    """Return the settings with what is None decided by these folders, and log it.

    Args:
        depth: None: without depth.
    """
    source = None if depth is None else depth_source(depth)
    decided = settings.for_depth(source, classes_have_names(semantics))
    before, after = settings_of(settings), settings_of(decided)
    chosen = ", ".join(f"{name} {after[name]}" for name in after if before[name] is None and after[name])
    if chosen:
        log.info("defaults for %s: %s", f"{source} depth" if source else "no depth", chosen)
    return decided
