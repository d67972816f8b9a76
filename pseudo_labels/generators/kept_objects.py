"""The objects of frames: read, described, and kept in a file of each frame until its labels are written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cups.errors import UserError
from cups.io.files import atomic_write, read_npz
from cups.io.png import read_ids, read_image
from cups.io.video import stored_file
from cups.ops.depth_edges import resize_depth
from cups.ops.regions import METHOD, even_regions
from pseudo_labels.algorithms.object_classes import Objects, describe_objects, follow_edges
from pseudo_labels.inputs.labels import check_aspect, read_depth, read_pair
from pseudo_labels.settings.outlines import pixels_of
from pseudo_labels.steps.frames import Folder, Frame

ARRAYS = ("instances", "ids", "vectors", "street", "recipe")
Found = tuple[np.ndarray, np.ndarray, Objects]


@dataclass(frozen=True)
class ReadObjects:
    """Picklable function frame -> semantics (H, W), instances (H, W) as they are written, and the objects.

    To describe a frame of 1024x2048 takes about 0.35 s, most of it for regions of the image; to read what was
    kept, 0.03 s.

    Attributes:
        store: of what is kept, one file a frame. Of other inputs or settings it is not read.
    """

    semantics: Folder
    instances: Folder
    depths: Folder
    store: Folder
    num_classes: int
    min_area: int
    keep_outlines: bool

    def __call__(self, frame: Frame) -> Found:
        """Read one frame, or take what was kept of it."""
        return self._kept(frame) or self.described(frame)

    def described(self, frame: Frame) -> Found:
        """Read one frame."""
        semantic, instances = read_pair(
            self.semantics.path(frame), self.instances.path(frame), self.num_classes
        )
        depth = read_depth(self.depths.path(frame))
        check_aspect(self.depths.path(frame), depth.shape, semantic.shape)
        if not self.keep_outlines:
            image = cv2.resize(read_image(frame.image), semantic.shape[::-1], interpolation=cv2.INTER_AREA)
            least = pixels_of(self.min_area, len(semantic))
            instances = follow_edges(instances, even_regions(image), least)
        depth = resize_depth(depth, (semantic.shape[0], semantic.shape[1]), sharp=True)
        return semantic, instances, describe_objects(semantic, instances, depth, self.num_classes)

    def keep(self, frame: Frame, found: Found) -> None:
        """Keep what was found in a frame."""
        _, instances, objects = found
        recipe = np.array(self._recipe(frame))
        values = (instances.astype(np.uint16), objects.ids, objects.vectors, np.array(objects.street), recipe)
        content: dict[str, Any] = dict(zip(ARRAYS, values, strict=True))
        atomic_write(self.store.path(frame), lambda path: np.savez_compressed(path, **content))

    def forget(self, frame: Frame) -> None:
        """Remove what was kept of a frame."""
        self.store.path(frame).unlink(missing_ok=True)

    def _kept(self, frame: Frame) -> Found | None:
        """Return what was kept of the very same files, by the same settings; None where there is no such."""
        path = self.store.path(frame)
        if not path.is_file():
            return None
        try:
            stored = read_npz(path, ARRAYS)
        except UserError:  # damaged, or another shard has just removed it
            return None
        if stored["recipe"].item() != self._recipe(frame):
            return None
        objects = Objects(stored["ids"], stored["vectors"], bool(stored["street"]))
        return read_ids(self.semantics.path(frame)), stored["instances"], objects

    def _recipe(self, frame: Frame) -> str:
        """Return what decides on the objects of a frame: settings, and size and date of its files."""
        folders = (self.semantics, self.instances, self.depths)
        states = [_state(path) for path in (frame.image, *(folder.path(frame) for folder in folders))]
        return f"{self.num_classes} {self.min_area} {self.keep_outlines} {METHOD} {states}"


def _state(path: Path) -> tuple[int, int]:
    state = stored_file(path).stat()
    return state.st_size, state.st_mtime_ns


@dataclass(frozen=True, eq=False)
class ReadVectors:
    """Picklable function frame -> (N, D) vectors of its objects, and whether a street was seen.

    Attributes:
        kept: names of the frames of which all is kept, for they will be written.
    """

    read: ReadObjects
    kept: Collection[str] = ()

    def __call__(self, frame: Frame) -> tuple[np.ndarray, bool]:
        """Read one frame."""
        found = self.read.described(frame)
        if frame.name in self.kept:
            self.read.keep(frame, found)
        return found[2].vectors, found[2].street
