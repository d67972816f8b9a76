"""Which images of a plain folder are one clip, and their places in it, from their names alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from cups.errors import UserError

Place = tuple[Path, int]
"""Folder and name of a clip, and a frame's place in it: neighbours differ by 1."""
_DIGITS = re.compile(r"(\d+)")
_TOLERANCE = 0.25
"""Of the distance between two frames: time stamps are not quite even."""


def places_in_clips(images: Sequence[tuple[Path, Path]]) -> list[Place]:
    """Return the place of each image, given as (folder of its clip or clips, file).

    A clip is the names of one folder that differ in one number: the last that differs at all. So
    `morning_001` and `night_001` are two clips, and so are `cam1_000019_rgb` and `cam2_000019_rgb`. That
    number tells the neighbours: `frame9` and `frame10` are, `frame10` and `frame12` are not. Clips of every
    fifth frame, or of time stamps, count in units of their smallest step. Names without a number are one
    clip in the order given.

    Raises:
        UserError: two files of one number.
    """
    by_folder: dict[Path, list[int]] = defaultdict(list)
    for index, (folder, _) in enumerate(images):
        by_folder[folder].append(index)
    places: dict[int, Place] = {}
    for folder, members in by_folder.items():
        for clip, numbers in _clips([images[index][1].stem for index in members]).items():
            files = {members[position]: number for position, number in numbers.items()}
            _refuse_equal(files, images)
            for index, place in zip(files, _counted(files.values()), strict=True):
                places[index] = (folder / clip, place)
    return [places[index] for index in range(len(images))]


def _clips(stems: Sequence[str]) -> dict[str, dict[int, int]]:
    """Return for each clip the number of each of its stems, by the position of the stem."""
    shapes: dict[tuple[str, ...], dict[int, list[str]]] = defaultdict(dict)
    for position, stem in enumerate(stems):
        parts = _DIGITS.split(stem)
        shapes[tuple(parts[::2]) if len(parts) > 1 else ()][position] = parts[1::2]
    clips: dict[str, dict[int, int]] = defaultdict(dict)
    for shape, numbers in shapes.items():
        if not shape:  # no numbers: the order
            clips[""] = {position: count for count, position in enumerate(numbers)}
            continue
        columns = list(zip(*numbers.values(), strict=True))
        varying = [at for at, column in enumerate(columns) if len(set(map(int, column))) > 1]
        at = varying[-1] if varying else len(columns) - 1
        for position, digits in numbers.items():
            rest = (*digits[:at], "", *digits[at + 1 :])
            name = "".join(f"{text}{digit}" for text, digit in zip(shape, (*rest, ""), strict=True))
            clips[name][position] = int(digits[at])
    return clips


def _refuse_equal(files: dict[int, int], images: Sequence[tuple[Path, Path]]) -> None:
    seen: dict[int, int] = {}
    for index, number in files.items():
        other = seen.setdefault(number, index)
        if other != index:
            raise UserError(
                f"{images[index][1]}: the same number as {images[other][1].name} in one clip; rename one"
            )


def _counted(numbers: Iterable[int]) -> list[int]:
    """Return the places of numbers: of a clip in even steps, in units of the step.

    What does not fall on a whole step gets a place that is nobody's neighbour.
    """
    found = list(numbers)
    steps = [after - before for before, after in pairwise(sorted(found))]
    unit = min(steps, default=1)
    even = sum(abs(step / unit - 1) <= _TOLERANCE for step in steps)
    return found if unit == 1 or even < max(2, len(steps) / 2) else _walked(found, unit)


def _walked(numbers: Sequence[int], unit: int) -> list[int]:
    places: dict[int, int] = {}
    ordered = sorted(numbers)
    place = places[ordered[0]] = 0
    for before, number in pairwise(ordered):
        steps = (number - before) / unit
        even = abs(steps - round(steps)) <= _TOLERANCE
        # Across an uneven gap, nothing is a neighbour, however far apart `offsets` are.
        place += round(steps) if even else len(ordered)
        places[number] = place
    return [places[number] for number in numbers]
