"""From the labels of a frame to its image."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from cups.errors import UserError
from cups.io.file_names import IMAGE_FOLDERS, IMAGE_SUFFIX, SEMANTIC_SUFFIX, flat_name, frame_name
from cups.io.images import (
    frame_names,
    frame_stem,
    is_image_source,
    list_city_images,
    report_images,
    scan_images,
)
from cups.io.provenance import read_provenance

log = logging.getLogger(__name__)
SPLITS = ("train", "train_extra", "val", "test")


class ImageFinder:
    """Finds the image of a frame in the Cityscapes layout, a plain folder or a video.

    In a plain folder the frame's whole name decides. The folder may lie above or below the one that the
    labels were made of: then the end of the name decides, and where several images share it, the folder that
    the labels' `provenance.json` names.

    Args:
        root: where the images are.
        labels: folder of the training labels; None: none tells where its images were.

    Raises:
        UserError: missing folder.
    """

    def __init__(self, root: Path, labels: Path | None = None) -> None:
        if not is_image_source(root):
            raise UserError(f"{root}: no such folder; give the data root with `data_root`")
        self.root, self.labels = root, labels
        self._plain: dict[str, Path] = {}
        self._ends: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        if not any((root / folder).is_dir() for folder in IMAGE_FOLDERS):
            self._list_plain()

    def __call__(self, stem: str) -> Path:
        """Return the image of a frame.

        Args:
            stem: its name in the training format (`cups.io.file_names.flat_name`).

        Raises:
            UserError: when it is nowhere, or could be several.
        """
        return self.all([stem])[0]

    def all(self, stems: Sequence[str]) -> list[Path]:
        """Return the images of frames.

        Raises:
            UserError: the first that is nowhere, and how many are; one that could be several.
        """
        found = {stem: self._find(stem) for stem in stems}
        missing = [stem for stem, path in found.items() if path is None]
        if missing:
            more = f" ({len(missing)} of {len(stems)} frames have none)" if len(missing) > 1 else ""
            raise UserError(
                f"{self.root}: no image for {missing[0]}{SEMANTIC_SUFFIX}{more}; check `data_root` and "
                "`pseudo_root`"
            )
        return [path for path in found.values() if path is not None]

    def _find(self, stem: str) -> Path | None:
        return self._plain.get(stem) or self._by_end(stem) or self._in_cities(stem)

    def _list_plain(self) -> None:
        listing = scan_images(self.root)
        log.info("%s: %s", self.root, report_images(listing.images, listing.ignored))
        base = self.root.resolve().as_posix()
        for name, path in zip(frame_names(self.root, listing.images), listing.images, strict=True):
            self._plain[flat_name(name)] = path
            self._ends[name.rpartition("/")[2]].append((f"{base}/{name}", path))

    def _by_end(self, stem: str) -> Path | None:
        name = frame_name(stem)
        found = [
            (whole.removesuffix(f"/{name}"), path)
            for whole, path in self._ends.get(name.rpartition("/")[2], ())
            if whole.endswith(f"/{name}")
        ]
        if len(found) > 1 and self._labelled is not None:
            for same in (str(self._labelled), self._labelled.name):
                there = [
                    (base, path) for base, path in found if base in (same, f"{Path(base).parent}/{same}")
                ]
                found = there if len(there) == 1 else found
        if len(found) > 1:
            raise UserError(
                f"{self.root}: {len(found)} images are named {name} ({found[0][1]}, {found[1][1]}); give "
                "`data_root` the folder that the labels were made of"
            )
        return found[0][1] if found else None

    @cached_property
    def _labelled(self) -> Path | None:
        """The folder of images that the labels were made of, if they tell."""
        told = None if self.labels is None else read_provenance(self.labels)
        folder = (told or {}).get("arguments", {}).get("image_dir")
        return None if folder is None else Path(folder).resolve()

    def _in_cities(self, stem: str) -> Path | None:
        city = stem.rsplit("_", 2)[0]  # names of cities may hold underscores
        for folder in IMAGE_FOLDERS:
            for split in SPLITS:
                path = self.root / folder / split / city / f"{stem}{IMAGE_SUFFIX}"
                if path.is_file():
                    return path
        return self._cities.get(stem)

    @cached_property
    def _cities(self) -> dict[str, Path]:
        """Every image of the layout by its stem: those of other suffixes, or in folders of other names."""
        splits = [self.root / folder / split for folder in IMAGE_FOLDERS for split in SPLITS]
        return {frame_stem(path): path for split in reversed(splits) for path in list_city_images(split)}
