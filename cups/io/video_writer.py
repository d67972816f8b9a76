"""Writing videos, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from cups.io.files import atomic_write

CODECS = ("libx264", "mpeg4")
"""The first that this build of FFmpeg has; browsers play the first only."""


def write_video(path: Path, frames: Iterable[np.ndarray], rate: float) -> None:
    """Write (H, W, 3) uint8 RGB frames of one size as an MP4 file, atomically.

    An odd row or column at the bottom or right is doubled: H.264 stores colours for two by two pixels.

    Args:
        rate: frames a second.

    Raises:
        ValueError: without frames, or frames of several sizes.
    """
    atomic_write(path, lambda temporary: _encode(temporary, frames, rate))


def _codec() -> str:
    import av

    return next(name for name in CODECS if name in av.codecs_available)


def _encode(path: Path, frames: Iterable[np.ndarray], rate: float) -> None:
    import av

    codec, size = _codec(), None
    stream: Any = None
    options = {"crf": "20", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        for pixels in frames:
            if size is None:
                size = pixels.shape
                exact = Fraction(rate).limit_denominator(1001)
                stream = container.add_stream(codec, rate=exact, options=options)
                stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
                stream.pix_fmt = "yuv420p"
            if pixels.shape != size:
                raise ValueError(f"a video has frames of one size, not {size} and {pixels.shape}")
            even = np.pad(pixels, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(stream.encode(frame))
        if size is None:
            raise ValueError("a video needs at least one frame")
        container.mux(stream.encode())
