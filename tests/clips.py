"""Small videos whose frames tell their number."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

FRAMES, HEIGHT, WIDTH = 30, 48, 64


def make_clip(
    path: Path,
    codec: str = "libx264",
    rotation: int = 0,
    frames: int = FRAMES,
    *,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    times: Sequence[int] | None = None,
) -> Path:
    """Write a clip whose grey level tells the number of each frame; its top left quarter is red.

    times: milliseconds of each frame; even ones otherwise, 25 a second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if codec != "mjpeg":  # whose frames are alone
            stream.codec_context.gop_size, stream.codec_context.max_b_frames = 8, 2
        stream.codec_context.thread_count, stream.bit_rate = 1, 4_000_000
        if rotation:  # only this writer wants PyAV 18; readers know rotation since 14.2
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write the rotation of a video")
            stream.set_display_rotation(rotation)
        container.start_encoding()  # also without frames
        for number in range(frames):
            picture = np.full((*size, 3), 20 + 8 * number, np.uint8)
            picture[: size[0] // 2, : size[1] // 2] = 250, 0, 0
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def number_of(picture: np.ndarray) -> int:
    """Return the number of a frame by its grey level, at the last corner."""
    return round((float(picture[-8:, -8:].mean()) - 20) / 8)
