"""Panoptic predictions of a data set as COCO panoptic files, written so that a killed run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cups.errors import UserError
from cups.evaluation.predict import Visitor, to_classes
from cups.io.coco_panoptic import (
    PanopticFile,
    categories_of,
    from_rgb,
    read_panoptic,
    write_panoptic,
    write_panoptic_json,
)
from cups.io.files import as_stored, is_complete_png, read_json, write_json
from cups.io.png import read_image
from cups.io.video import stored_file
from cups.ops.panoptic_map import PanopticMap
from cups.structures import LoadedImage, Prediction, PseudoClasses
from cups.taxonomy import ClassSet

SETTINGS_FILE = "settings.json"
TRACKS = "tracks"
"""Folder of what is remembered of each clip."""


@dataclass(frozen=True)
class PanopticExport:
    """A folder of predictions: `raw/` holds pseudo-classes, `panoptic/` the classes they were matched to.

    Attributes:
        folder: where everything goes; `raw.json` and `panoptic.json` lie beside their folders of PNG files.
        images: name and image file of each frame.
        pseudo: the network's pseudo-classes, the categories of `raw/`.
        kind: where the network's predictions go: "raw", or "panoptic" without a matching.
        setting: what names the folder, for errors.
    """

    folder: Path
    images: Sequence[tuple[str, Path]]
    pseudo: PseudoClasses
    kind: str = "raw"
    setting: str = "output_dir"

    @property
    def maps(self) -> Path:
        """The folder of the network's predictions."""
        return self.folder / self.kind

    def png(self, name: str) -> Path:
        """Return the file of a frame's prediction."""
        return self.maps / f"{name}.png"

    def clear(self) -> None:
        """Remove what an earlier run predicted and drew; a folder without its settings is left alone."""
        settings = self.folder / SETTINGS_FILE
        if settings.is_file():
            for folder in (self.maps, self.folder / "overlays", self.folder / TRACKS):
                shutil.rmtree(folder, ignore_errors=True)
            settings.unlink()

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Note what the predictions are made with.

        Raises:
            UserError: the folder holds predictions made with other settings.
        """
        path = self.folder / SETTINGS_FILE
        if path.is_file():
            fix = f"remove it, or choose another `{self.setting}`"
            stored, wanted = read_json(path, fix), as_stored(settings)
            differing = sorted(key for key in stored | wanted if stored.get(key) != wanted.get(key))
            if differing:
                raise UserError(
                    f"{self.folder}: holds predictions with another {', '.join(differing)}; {fix}"
                )
        write_json(path, settings)

    def todo(self) -> list[int]:
        """Return the positions of the frames without a complete prediction that is newer than its image."""
        return [
            i
            for i, (name, path) in enumerate(self.images)
            if not self._is_written(name) or changed(path) > changed(self.png(name))
        ]

    def _is_written(self, name: str) -> bool:
        path = self.png(name)
        return path.is_file() and is_complete_png(path)

    def read(self, name: str) -> PanopticMap:
        """Return the prediction of a frame."""
        return read_panoptic(self.png(name), self.pseudo.void)

    def segments(self, name: str) -> np.ndarray:
        """Return the prediction of a frame: (H, W) int32 segment ids."""
        return from_rgb(read_image(self.png(name)))

    def replay(self, batches: Iterable[list[LoadedImage]], visitor: Visitor, total: int) -> None:
        """Show a visitor the written predictions; `semantic` is their category."""
        for batch in tqdm(batches, total=total, desc="score", unit="batch"):
            for loaded in batch:
                panoptic = self.read(loaded.name)
                visitor(loaded, Prediction(panoptic, torch.from_numpy(panoptic.categories)))

    def write_raw_json(self) -> Path:
        """Describe the raw predictions in `raw.json`; return its path."""
        return self.describe(categories_of(self.pseudo.names, self.pseudo.thing_ids))

    def describe(self, categories: Sequence[dict[str, Any]]) -> Path:
        """Write the JSON of the network's predictions in terms of COCO `categories`; return its path."""
        return self._write_json(self.kind, categories)

    def write_mapped(self, assignment: np.ndarray, classes: ClassSet) -> Path:
        """Write `panoptic/` and `panoptic.json` in terms of classes; return the path of the JSON.

        assignment: (S + T,) class of each pseudo-class, 255 for none.
        """
        for name, _ in tqdm(self.images, desc="map", unit="img"):
            mapped = to_classes(self.read(name), assignment)
            of_things = np.isin(mapped.category, classes.things)
            mapped = replace(mapped, instance=np.where(of_things, mapped.instance, 0))
            write_panoptic(self.folder / "panoptic" / f"{name}.png", mapped)
        return self._write_json("panoptic", categories_of(classes.names, classes.things))

    def _write_json(self, kind: str, categories: Sequence[dict[str, Any]]) -> Path:
        path = self.folder / f"{kind}.json"
        files = [
            PanopticFile((Path(name).parent / file.name).as_posix(), f"{name}.png")
            for name, file in self.images
        ]
        write_panoptic_json(path, self.folder / kind, files, categories)
        return path


def changed(path: Path) -> int:
    """Return when a file, or the video of a frame, was last written."""
    return stored_file(path).stat().st_mtime_ns
