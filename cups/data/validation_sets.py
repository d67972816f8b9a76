"""The data sets to evaluate on, by name; the classes are imported when one is built."""

from __future__ import annotations

VALIDATION_SETS = {"cityscapes": "CityscapesPanopticValidation", "kitti": "KittiPanopticValidation"}
"""Value of `DATA.DATASET` -> class in `cups.data`."""
