"""Telling masks from the images that they lie beside: `JPEGImages/1.jpg` and `SegmentationClass/1.png`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from cups.errors import UserError

LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".webp")
"""Endings that masks have: others do not keep ids."""
NAMED = re.compile(
    r"(^|[_\-. ])(masks?|seg|segmentations?|segmentation(class|object)\w*|labels?|labelids|annotations?|gt|"
    r"gtfine|ground_?truth|instances?|instanceids|semantics?|panoptic|trainids|depths?|disparity)($|[_\-. ])",
    re.IGNORECASE,
)
"""Words that the name of a folder of masks, or the end of a mask's own name, holds."""
CITYSCAPES = re.compile("_gt(Fine|Coarse)_[a-zA-Z]+$")
PHOTO = 0.5
"""Bytes a pixel from which a compressed file is a photograph."""
MOST_COLOURS = 64
"""A photograph has more colours; a mask has one for each class or object."""
SHARED = 0.5
"""Share of the files of a folder whose names another folder has too, from which the two belong together."""


def mask_files(root: Path, files: Sequence[Path]) -> set[Path]:
    """Return those of the files below a root that are masks of others.

    Only files whose name an image has too can be masks: in the same folder (`1.jpg` and `1.png` or
    `1_mask.png`), or in a folder beside it. They are masks where the name says so, or where they hold few
    colours and the image many. Ground truth of Cityscapes is known by its names.
    """
    folders: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    holders: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        folder = file.parent.relative_to(root)
        folders[folder][file.stem].append(file)
        holders[file.stem].append(folder)
    found: set[Path] = set()
    for folder, stems in folders.items():
        found |= _in_one_folder(stems)
        others = {other for stem in (min(stems), max(stems)) for other in holders[stem]} - {folder}
        if any(_are_masks_of(folder, stems, other, folders[other]) for other in others):
            found |= {file for same in stems.values() for file in same}
    return found


def _in_one_folder(stems: dict[str, list[Path]]) -> set[Path]:
    found: set[Path] = set()
    for stem, same in stems.items():
        ending = NAMED.search(stem)
        beside = ending and ending.end() == len(stem) and stem[: ending.start()] in stems
        if beside or CITYSCAPES.search(stem):
            found |= {file for file in same if file.suffix.lower() in LOSSLESS}
        elif len(same) > 1:
            masks = {file for file in same if _has_few_colours(file)}
            found |= masks if len(masks) < len(same) else set()
    return found


def _are_masks_of(
    folder: Path, stems: dict[str, list[Path]], other: Path, others: dict[str, list[Path]]
) -> bool:
    """Return whether a folder holds masks of the images of another, of the same depth in the tree."""
    if len(folder.parts) != len(other.parts) or any(
        f.suffix.lower() not in LOSSLESS for f in stems[min(stems)]
    ):
        return False
    differ = [(one, two) for one, two in zip(folder.parts, other.parts, strict=True) if one != two]
    named = any(NAMED.search(one) and not NAMED.search(two) for one, two in differ)
    if not named and not _has_few_colours(stems[max(stems)][0]):
        return False
    shared = sorted(stems.keys() & others.keys())
    if len(shared) < SHARED * len(stems):
        return False
    some = (shared[0], shared[len(shared) // 2], shared[-1])
    masks, images = ([_has_few_colours(names[stem][0]) for stem in some] for names in (stems, others))
    return named or (all(masks) and not any(images))


@lru_cache(maxsize=4096)
def _has_few_colours(path: Path) -> bool:
    """Return whether a file can hold ids and has few colours, but more than one.

    A large file for its size has many: it is not decoded.
    """
    if path.suffix.lower() not in LOSSLESS:
        return False
    import numpy as np

    from cups.io.pixels import read_header, read_stored

    try:
        header = read_header(path)
        if header.mode in ("P", "1"):
            return True
        if header.kind in ("PNG", "WEBP") and path.stat().st_size > PHOTO * header.size[0] * header.size[1]:
            return False
        pixels = read_stored(path)
    except UserError:
        return False
    colours = pixels.reshape(-1, pixels.shape[2] if pixels.ndim == 3 else 1)
    return 1 < len(np.unique(colours[:: max(1, len(colours) // 10**5)], axis=0)) <= MOST_COLOURS
