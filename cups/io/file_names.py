"""Names on disk that writers and readers must agree on: images, videos, and the CUPS training format."""

from __future__ import annotations

import unicodedata

IMAGE_MARK = "_leftImg8bit"
"""How the name of an image ends in the Cityscapes layout, before its suffix."""
IMAGE_SUFFIX = f"{IMAGE_MARK}.png"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Endings of images, in small letters."""
HEIC_SUFFIXES = (".heic", ".heif")
"""Endings of the images of some phones, read where pillow-heif is installed."""
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


def flat_name(name: str) -> str:
    """Return the name of a frame as one file name, without folders; `frame_name` gives it back.

    Example:
        >>> flat_name("clip1/000001")
        'clip1%2F000001'
    """
    return name.replace("%", "%25").replace("/", "%2F")


def frame_name(flat: str) -> str:
    """Return the name of a frame from its `flat_name`.

    Example:
        >>> frame_name("clip1%2F000001")
        'clip1/000001'
    """
    return flat.replace("%2F", "/").replace("%25", "%")


def comparable(name: str) -> str:
    """Return a name in composed Unicode (NFC): macOS writes letters and their accents apart."""
    return unicodedata.normalize("NFC", name)
