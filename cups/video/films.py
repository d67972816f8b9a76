"""Which clips are films: photos that a camera numbered are none, though their names look alike."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.png import read_image
from cups.io.video import is_frame
from cups.ops.flow import gray, scene_flow
from cups.ops.working_size import resize_pixels
from cups.video.clips import Clip, clips_of
from cups.video.tracks import working_size

log = logging.getLogger(__name__)
LOOKED_AT = 3
"""Pairs of neighbours that tell whether a series of numbered images is a film."""


def films_of(images: Sequence[tuple[str, Path]]) -> list[Clip]:
    """Return the clips whose objects can be followed: videos, and numbered images that show one scene.

    Of images that names make a clip (`cups.video.clips.clips_of`), the first `LOOKED_AT` pairs of neighbours
    that can be read are compared by flow. They are a film where it leads from one to the next in most pairs.
    The parts of a series between long gaps are decided together.

    Args:
        images: name and file of each; the file may be a frame of a video, which needs no look.
    """
    files = dict(images)
    series: dict[Path, list[Clip]] = defaultdict(list)
    for clip in clips_of(images):
        series[clip.series].append(clip)
    films = {name for name, clips in series.items() if _is_film(name, clips, files)}
    return [clip for clips in series.values() for clip in clips if clip.series in films]


def _is_film(series: Path, clips: Sequence[Clip], files: dict[str, Path]) -> bool:
    if is_frame(files[clips[0].names[0]]):
        return True
    pairs = (pair for clip in clips for pair in pairwise(files[name] for name in clip.names))
    alike = [_show_one_scene(*pair) for pair in islice(pairs, LOOKED_AT)]
    film = 2 * alike.count(True) > len(alike) - alike.count(None)
    if not film:
        log.info("%s: numbered, but neighbours show other scenes; objects are not followed", series)
    return film


def _show_one_scene(first: Path, second: Path) -> bool | None:
    """Return whether flow leads from one image to another; None where one cannot be read."""
    try:
        pictures = [_brightness(path) for path in (first, second)]
    except UserError:
        return None
    return pictures[0].shape == pictures[1].shape and bool(scene_flow(*pictures)[1].any())


def _brightness(path: Path) -> np.ndarray:
    image = read_image(path)
    return gray(resize_pixels(image, working_size((image.shape[0], image.shape[1]))))
