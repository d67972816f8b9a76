"""Images that a step could not read: noted, so that later steps leave them out too.

With `skip_bad` each step notes them as `failures.json` beside its `provenance.json`. A frame that is noted
below an output root is left out by all later steps with `skip_bad` there, until its image changes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from cups.errors import UserError
from cups.io.files import read_json, write_json
from cups.io.images import image_bytes
from cups.io.locking import exclusive
from pseudo_labels.steps.frames import FAILURES, IMAGES, Frame, FrameSource, left_out_below
from pseudo_labels.steps.options import OutputRoot

log = logging.getLogger(__name__)
CHECKED = "left_out"
"""Folder of what trainings note, under the output root."""
NAMED = 10
"""Frames that a message names."""
THREADS = 4


def frames_of(source: FrameSource, outputs: Collection[Path]) -> list[Frame]:
    """Return the frames of a step that writes these folders, and log which ones are left out.

    What only these very folders note is tried again.
    """
    root = source.left_out_by
    if root is None:
        return source.frames()
    everything = replace(source, left_out_by=None).frames()
    bad = left_out_below(root, everything, besides=outputs)
    if bad:
        log.warning("%s", summary(bad))
    return [frame for frame in everything if frame.name not in bad]


def summary(bad: Mapping[str, str]) -> str:
    """Return in one line how many frames are left out, which, and by which folder first."""
    shown = [f"{name} ({folder})" for name, folder in list(bad.items())[:NAMED]]
    return f"{len(bad)} images left out, as before: {', '.join(shown)}{', ...' if len(bad) > NAMED else ''}"


def readable(source: FrameSource, run: OutputRoot) -> FrameSource:
    """Return the source of a training: with `skip_bad` without the images that cannot be read.

    Every image that no run has looked at yet is read once, for a training cannot pass over one in its middle.

    Raises:
        UserError: no image is left.
    """
    if not run.skip_bad:
        return source
    root = run.root(source)
    _note_unreadable(source.frames(), root / CHECKED)
    kept = run.source(source)
    if not frames_of(kept, ()):
        raise UserError(f"{source.image_folder}: no image can be read; see {root / CHECKED / FAILURES}")
    return kept


def _note_unreadable(frames: Sequence[Frame], folder: Path) -> None:
    before = _read(folder / IMAGES)
    sizes = {frame.name: image_bytes(frame.image) for frame in frames}
    new = [frame for frame in frames if before.get(frame.name) != sizes[frame.name]]
    if not new:
        return
    with ThreadPoolExecutor(THREADS) as pool:
        problems = dict(zip((frame.name for frame in new), pool.map(_problem, new), strict=True))
    with exclusive(folder / FAILURES):
        failures = {name: error for name, error in _read(folder / FAILURES).items() if name not in problems}
        failures |= {name: error for name, error in problems.items() if error is not None}
        write_json(folder / FAILURES, dict(sorted(failures.items())))
        write_json(folder / IMAGES, dict(sorted({**_read(folder / IMAGES), **sizes}.items())))


def _problem(frame: Frame) -> str | None:
    from cups.io.png import read_image

    try:
        read_image(frame.image)
    except UserError as error:
        log.warning("skipped %s: %s", frame.name, error)
        return str(error)
    return None


def _read(path: Path) -> dict[str, str]:
    return read_json(path, "remove it and run the step again") if path.is_file() else {}
