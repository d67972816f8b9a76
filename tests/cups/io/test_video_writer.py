"""Videos are written whole, at the rate asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.io.video import frame_paths, frame_rate, read_frame
from cups.io.video_writer import CODECS, write_video


@pytest.mark.parametrize("codec", CODECS)
def test_write_video__reads_back(tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cups.io.video_writer.CODECS", (codec,))
    frames = [np.full((33, 65, 3), 40 * i, dtype=np.uint8) for i in range(1, 6)]
    path = tmp_path / "a" / "clip.mp4"
    write_video(path, iter(frames), 12.5)
    assert frame_rate(path) == 12.5
    back = [read_frame(frame) for frame in frame_paths(path)]
    assert len(back) == 5 and back[0].shape == (34, 66, 3)
    assert all(abs(int(b.mean()) - int(f.mean())) < 6 for b, f in zip(back, frames, strict=True))


def test_write_video__a_failure_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> object:
        yield np.zeros((16, 16, 3), dtype=np.uint8)
        yield np.zeros((16, 18, 3), dtype=np.uint8)

    with pytest.raises(ValueError, match="one size"):
        write_video(tmp_path / "clip.mp4", frames(), 25)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        write_video(tmp_path / "clip.mp4", [], 25)
    assert list(tmp_path.iterdir()) == []
