"""Videos as folders of frames: `clip.mp4/000000`, `clip.mp4/000001`, ... are read like image files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.file_names import VIDEO_SUFFIXES

FIX = "copy the file again, or convert it (for example to H.264 in .mp4)"


def is_video(path: Path) -> bool:
    """Return whether a path is a video file, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def is_frame(path: Path) -> bool:
    """Return whether a path is a frame inside a video file: `clip.mp4/000012`."""
    return path.name.isdecimal() and is_video(path.parent)


def frame_paths(video: Path) -> list[Path]:
    """Return the virtual paths of all frames of a video, in order."""
    return [video / f"{number:06d}" for number in range(len(_frames(video)))]


def frame_rate(video: Path) -> float:
    """Return the frames per second of a video."""
    import av

    with av.open(str(video)) as container:
        return float(container.streams.video[0].average_rate or 25)


def read_frame(path: Path) -> np.ndarray:
    """Read a frame of a video: (H, W, 3) uint8 RGB."""
    return _frames(path.parent)[int(path.name)]


@lru_cache(maxsize=1)
def _frames(video: Path) -> list[np.ndarray]:
    import av

    try:
        with av.open(str(video)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except av.FFmpegError as error:
        raise UserError(f"{video}: cannot be decoded ({error.strerror}); {FIX}") from None
