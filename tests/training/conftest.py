"""A tiny rendered city with made-up pseudo-labels, to train on in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.io.file_names import ALL_PIXELS, INSIDE_INSTANCES, INSTANCE_SUFFIX, SEMANTIC_SUFFIX
from cups.io.png import write_png
from cups.taxonomy import void_value

SIZE = (64, 128)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2])]


@pytest.fixture(scope="module")
def city(make_folder: Callable[[str], Path], write_city: Callable[[Path, str], Path]) -> Path:
    return write_city(make_folder("city"), "small")


@pytest.fixture(scope="module")
def label(city: Path) -> Callable[[int], Path]:
    """Return a function that writes pseudo-labels of K classes and returns their folder.

    Stuff is a chequerboard of classes 0..K-3, so that 300 classes have pixels; things are two large
    rectangles of the classes K-2 and K-1; a strip is void.
    """

    def write(count: int) -> Path:
        folder = city / f"labels_{count}"
        void = void_value(count)
        rows, columns = np.indices(SIZE)
        semantic = ((rows // 5) * 26 + columns // 5) % (count - 2)
        instance = np.zeros(SIZE, np.uint16)
        for number, left in enumerate((10, 70), start=1):
            semantic[20:56, left : left + 40] = count - 3 + number
            instance[20:56, left : left + 40] = number
        semantic[:3] = void
        frames = sorted((city / "leftImg8bit" / "train").glob("*/*_leftImg8bit.png"))
        for frame in frames:
            stem = frame.name.removesuffix("_leftImg8bit.png")
            dtype = np.uint8 if count <= 254 else np.uint16
            write_png(folder / f"{stem}{SEMANTIC_SUFFIX}", semantic.astype(dtype))
            write_png(folder / f"{stem}{INSTANCE_SUFFIX}", instance)
        known = semantic[semantic != void]
        inside = semantic[instance > 0]
        statistics = {
            key: torch.from_numpy(np.bincount(part, minlength=count)).float() * len(frames)
            for key, part in ((ALL_PIXELS, known), (INSIDE_INSTANCES, inside))
        }
        torch.save(statistics, folder / "split_1.pt")
        return folder

    return write
