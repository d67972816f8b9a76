"""Small videos whose frames tell their number."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

FRAMES, HEIGHT, WIDTH = 30, 48, 64


def make_clip(path: Path, codec: str = "libx264", rotation: int = 0, frames: int = FRAMES) -> Path:
    """Write a clip whose grey level tells the number of each frame; its top left quarter is red."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 8, 2
        stream.codec_context.thread_count, stream.bit_rate = 1, 4_000_000
        if rotation:  # only this writer wants PyAV 18; readers know rotation since 14.2
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write the rotation of a video")
            stream.set_display_rotation(rotation)
        for number in range(frames):
            picture = np.full((HEIGHT, WIDTH, 3), 20 + 8 * number, np.uint8)
            picture[: HEIGHT // 2, : WIDTH // 2] = 250, 0, 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def number_of(picture: np.ndarray) -> int:
    """Return the number of a frame by its grey level, at the last corner."""
    return round((float(picture[-8:, -8:].mean()) - 20) / 8)
