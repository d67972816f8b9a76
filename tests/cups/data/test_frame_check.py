"""What is found before the first step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cups.data.frame_check import check_frames
from cups.errors import UserError
from cups.io.png import write_png


@pytest.fixture
def frames(tmp_path: Path) -> tuple[list[Path], list[list[Path]]]:
    """Four images of noise with two label files each."""
    rng = np.random.default_rng(0)
    images = [tmp_path / "images" / f"{number}.png" for number in range(4)]
    labels = [[tmp_path / kind / path.name for kind in ("semantic", "instance")] for path in images]
    for image, files in zip(images, labels, strict=True):
        write_png(image, rng.integers(0, 255, (40, 80, 3), dtype=np.uint8))
        for file in files:
            write_png(file, np.zeros((20, 40), np.uint8))
    return images, labels


def test_check_frames__labels_may_be_smaller_of_the_same_shape(
    frames: tuple[list[Path], list[list[Path]]],
) -> None:
    check_frames(*frames)
    check_frames(frames[0])


def test_check_frames__the_first_fault_is_named_and_all_are_counted(
    frames: tuple[list[Path], list[list[Path]]],
) -> None:
    """A training began, and died at the step that drew the damaged frame."""
    images, labels = frames
    images[1].write_bytes(images[1].read_bytes()[:-100])
    with pytest.raises(UserError, match=r"1\.png: truncated PNG; copy or generate the file again$"):
        check_frames(images)
    images[3].write_bytes(b"")
    with pytest.raises(UserError, match=r"1\.png: truncated PNG.* \(2 of 4 frames are such\)$"):
        check_frames(images, labels)
    write_png(labels[0][1], np.zeros((25, 40), np.uint8))
    with pytest.raises(UserError, match=r"instance/0\.png: size 25x40 does not fit the image 40x80"):
        check_frames(images, labels)
