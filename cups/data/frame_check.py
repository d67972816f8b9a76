"""What is checked of every training frame before the first step: it is there, whole, and fits its labels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cups.errors import UserError
from cups.io.files import is_complete_png
from cups.io.png import image_size

THREADS = 8
"""Reading a header waits for the disk most of the time."""


def check_label_size(size: tuple[int, int], raw_size: tuple[int, int], name: str) -> None:
    """Refuse labels whose aspect ratio is not that of their image within one pixel.

    Raises:
        UserError: naming the file and both sizes.
    """
    if abs(size[1] * raw_size[0] / raw_size[1] - size[0]) > 1.0:
        raise UserError(
            f"{name}: size {size[0]}x{size[1]} does not fit the image {raw_size[0]}x{raw_size[1]}; "
            "generate the pseudo-labels from these images"
        )


def check_frames(images: Sequence[Path], labels: Sequence[Sequence[Path]] | None = None) -> None:
    """Read the header of every image, and of its label files, and compare their sizes.

    Args:
        images: image files.
        labels: label files of each image.

    Raises:
        UserError: the first file that is missing, damaged or of another shape, and how many frames have one.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(_fault, images, labels or [()] * len(images), chunksize=64)
        faults = [fault for fault in found if fault is not None]
    if faults:
        more = f" ({len(faults)} of {len(images)} frames are such)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}")


def _fault(image: Path, labels: Sequence[Path]) -> str | None:
    """Return what is wrong with a frame."""
    try:
        size = _whole(image)
        for path in labels:
            check_label_size(_whole(path), size, str(path))
    except UserError as error:
        return str(error)
    return None


def _whole(path: Path) -> tuple[int, int]:
    size = image_size(path)
    # The header of a file that was cut off is whole, and OpenCV fills its missing rows silently.
    if path.suffix.lower() == ".png" and not is_complete_png(path):
        raise UserError(f"{path}: truncated PNG; copy or generate the file again")
    return size
