"""KITTI panoptic by its own name; `cups/data_sets/kitti.yaml` describes its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cups.data.described import DescribedPanopticValidation
from cups.defaults import VAL_SPLIT
from cups.set_files import find_set


class KittiPanopticValidation(DescribedPanopticValidation):
    """KITTI frames; arguments and items as of `CityscapesPanopticValidation`.

    Frames differ by a few pixels in size: CUPS crops or pads to (368, 1240).
    """

    def __init__(self, root: Path | str, split: str = VAL_SPLIT, *args: Any, **rest: Any) -> None:
        super().__init__(find_set("kitti"), root, split, *args, **rest)
