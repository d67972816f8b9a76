"""Which images are frames of one clip, from where they lie and what they are called."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cups.errors import UserError
from cups.io.frame_numbers import places_in_clips

log = logging.getLogger(__name__)
LONGEST_GAP = 8
"""Places that may be missing within a clip; a longer gap parts it."""

_COUNTED_TWICE = re.compile(r"^(\d{4}|\d{6})_(?:\d{4}|\d{6})_(?=.+_\d{6}_\d{6}(?!\d))")
"""Cityscapes-VPS and -DVPS: number of the clip, of the frame in it, then the name that Cityscapes gave it."""
_SEQUENCE = re.compile(r"(.+_\d{6})_\d{6}(?!\d)")


@dataclass(frozen=True)
class Clip:
    """Frames that follow one another, at least two.

    Attributes:
        names: of the frames, in order.
        places: of each in time; neighbours differ by 1, more where frames are missing.
        series: folder, and what its names have in common; the parts between long gaps are of one series.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    series: Path = field(default=Path(), compare=False)


def clips_of(images: Sequence[tuple[str, Path]]) -> list[Clip]:
    """Return the clips among images, in the order of their first frames; single images are in none.

    The frames of a video are one clip, and so are the files of a folder whose names differ in one number, see
    `cups.io.frame_numbers.places_in_clips`. Names without a number tell no order: no clip.

    Args:
        images: name and file of each; the file may be a frame of a video.
    """
    folders: dict[Path, list[int]] = defaultdict(list)
    for index, (_, path) in enumerate(images):
        if re.search(r"\d", path.stem):
            # Cityscapes numbers its sequences before their frames: two of them are no neighbours.
            sequence = _SEQUENCE.match(_name(path))
            folders[path.parent / sequence[1] if sequence else path.parent].append(index)
    found: dict[tuple[Path, Path], list[tuple[int, int]]] = defaultdict(list)
    for folder, members in folders.items():
        try:
            places = places_in_clips([(folder, Path(_name(images[index][1]))) for index in members])
        except UserError as error:
            log.info("%s: no clip, its objects are not followed: %s", folder, error)
            continue
        for index, (clip, place) in zip(members, places, strict=True):
            found[folder, clip].append((place, index))
    parts = [
        (part, folder / series)
        for (folder, series), frames in found.items()
        for part in _parted(sorted(frames))
        if len(part) > 1
    ]
    return [
        Clip(tuple(images[index][0] for _, index in part), tuple(place for place, _ in part), series)
        for part, series in sorted(parts, key=lambda part: min(index for _, index in part[0]))
    ]


def _name(path: Path) -> str:
    return _COUNTED_TWICE.sub(r"\1_", path.name)


def _parted(frames: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Cut sorted (place, index) at long gaps."""
    parts: list[list[tuple[int, int]]] = []
    for place, index in frames:
        if parts and place - parts[-1][-1][0] <= LONGEST_GAP + 1:
            parts[-1].append((place, index))
        else:
            parts.append([(place, index)])
    return parts


def clip_places(names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the number of the clip of each frame, and its place there; what is in none is a clip of its own.

    Args:
        names: of the frames, paths without suffix.
    """
    clips = clips_of([(name, Path(f"{name}.png")) for name in names])
    known = {
        name: (number, place) for number, clip in enumerate(clips) for place, name in enumerate(clip.names)
    }
    return [known.get(name, (len(clips) + index, 0)) for index, name in enumerate(names)]
