"""Nothing found: an outcome with a cause, a picture of what was seen, and an exit code of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cups.errors import NothingFound, UserError
from cups.io.png import read_ids, write_png
from cups.ops.spread import spread_places
from pseudo_labels.steps.frames import Folder, Frame

F = TypeVar("F")

log = logging.getLogger(__name__)
PICTURE = "nothing_found.png"
"""Contact sheet beside the output of a step that found nothing."""
SHOWN = 4
SAMPLE = 500
"""Files that are looked into at most, evenly spread."""


def evenly_spread(frames: Sequence[F], sample: int) -> list[F]:
    """Return at most `sample` of the frames, or of whatever stands for them; 0: all."""
    return [frames[place] for place in spread_places(len(frames), sample or len(frames))]


def refuse_nothing(
    cause: str,
    fix: str,
    folder: Path,
    frames: Sequence[Frame],
    show: Callable[[Frame], list[np.ndarray]],
    accepted: bool,
) -> None:
    """Say that nothing was found; a picture shows what there was to see.

    Args:
        cause: what was found, and in which folder.
        fix: what to do.
        folder: of the output, for the picture.
        frames: those seen.
        show: pictures of a frame.
        accepted: the user goes on all the same: a warning is all.

    Raises:
        NothingFound: unless accepted.
    """
    path = folder / PICTURE
    seen = f"; {path} shows what was seen" if write_picture(path, frames, show) else ""
    if accepted:
        log.warning("WARNING: %s%s; accepted", cause, seen)
        return
    raise NothingFound(f"{cause}; {fix}{seen}; to go on all the same, add `accept_nothing`")


def write_picture(path: Path, frames: Sequence[Frame], show: Callable[[Frame], list[np.ndarray]]) -> bool:
    """Write pictures of a few frames, evenly spread; returns whether any frame could be shown."""
    from cups.visualization import figure_sheet

    rows, names = [], []
    for frame in evenly_spread(frames, SHOWN):
        try:
            rows.append(show(frame))
        except UserError as error:
            log.warning("%s: no picture: %s", frame.name, error)
        else:
            names.append(frame.name)
    if rows:
        write_png(path, figure_sheet((), rows, names))
    return bool(rows)


def require_instances(
    output: Folder,
    frames: Sequence[Frame],
    least: float,
    show: Callable[[Frame], list[np.ndarray]],
    accepted: bool,
) -> None:
    """Look whether enough images have an instance, once all files of a step are there.

    Args:
        output: folder of instances; at most `SAMPLE` of its files are read.
        frames: all frames of the step, over all shards.
        least: share of images that must have one.

    Raises:
        NothingFound: fewer have, and it is not accepted.
    """
    written = evenly_spread([frame for frame in frames if output.path(frame).is_file()], SAMPLE)
    found = sum(bool(read_ids(output.path(frame)).any()) for frame in written)
    if not written or found >= least * len(written):
        (output.directory / PICTURE).unlink(missing_ok=True)
        return
    refuse_nothing(
        f"{output.directory}: instances in {found} of {len(written)} images (least: {100 * least:g} %)",
        "look at things, depth and semantics: other `thing_classes`, a smaller `min_area`, or a smaller "
        "`least_found` where objects are rare",
        output.directory,
        written,
        show,
        accepted,
    )
