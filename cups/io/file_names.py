"""Names on disk that writers and readers must agree on: Cityscapes images, and the CUPS training format."""

from __future__ import annotations

IMAGE_SUFFIX = "_leftImg8bit.png"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Endings of images in plain folders."""
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".wmv", ".3gp")
"""Endings of videos, in small letters."""

IMAGE_FOLDERS = ("leftImg8bit", "leftImg8bit_sequence")
"""Folders of the Cityscapes layout that hold images: the frames with labels, and whole clips."""

CUPS_FOLDER = "cups_pseudo_labels"
"""How names of folders with training labels begin."""
SEMANTIC_SUFFIX = "_leftImg8bit_semantic.png"
INSTANCE_SUFFIX = "_leftImg8bit_instance.png"

ALL_PIXELS = "distribution all pixels"
INSIDE_INSTANCES = "distribution inside object proposals"
"""Keys of the `.pt` statistics, as CUPS (Hahn et al., CVPR 2025) writes them."""
SPLIT_FILE = "thing_stuff_split.json"
"""Which classes are things: in a semantic folder, and beside the training labels made of it."""
