"""Label folders of any tool: maps of class ids, with maps of instances beside them where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cups.errors import UserError
from cups.io.file_names import IMAGE_MARK, frame_name
from cups.io.files import read_json
from cups.io.pixels import read_header
from cups.io.png import read_ids
from cups.labels.coco_sets import CocoSet, read_coco_set

ENDINGS = (
    ("_labelIds", "_instanceIds"),
    ("_labelTrainIds", "_instanceIds"),
    ("_semantic", "_instance"),
)
"""Ends of the names, before the suffix, of a semantic and an instance file that lie side by side."""
FOLDERS = (("semantic", "instance"), ("semantics", "instances"), ("classes", "instances"))
"""Sub-folders in which files of the same names lie."""
MARKS = ("_gtFine", "_gtCoarse", IMAGE_MARK)
"""Further ends of Cityscapes' names."""
COCO_NAME = "panoptic.json"


@dataclass(frozen=True)
class IdFolder:
    """Maps of class ids.

    Attributes:
        path: the folder.
        files: name of a frame -> its semantic file, and its instance file or None.
    """

    path: Path
    files: Mapping[str, tuple[Path, Path | None]]

    @property
    def names(self) -> list[str]:
        """Names of the frames, sorted."""
        return sorted(self.files)

    @property
    def has_instances(self) -> bool:
        """Whether there are instance files."""
        return all(instance is not None for _, instance in self.files.values())

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Read ids of classes and of instances of a frame, both (H, W); instances are 0 where there are none.

        Raises:
            UserError: unreadable files, colours in place of ids, or two sizes.
        """
        semantic, instance = self.files[name]
        ids = read_label_ids(semantic)
        if instance is None:
            return ids, np.zeros(ids.shape, dtype=np.uint16)
        instances = read_label_ids(instance)
        if instances.shape != ids.shape:
            raise UserError(
                f"{instance}: size {instances.shape[0]}x{instances.shape[1]}, but {semantic.name} is "
                f"{ids.shape[0]}x{ids.shape[1]}; give the two files of one image"
            )
        return ids, instances


Labels = IdFolder | CocoSet


def read_label_ids(path: Path) -> np.ndarray:
    """Read a map of ids: (H, W). Of a palette PNG (Pascal VOC, CVAT) these are the places in the palette.

    Raises:
        UserError: missing or unreadable file, or a colour picture.
    """
    if read_header(path).mode in ("RGB", "RGBA"):
        raise UserError(
            f"{path}: is a colour picture, and ids are due; give the id files (Cityscapes: *_labelIds.png), "
            "or the JSON of a COCO panoptic set"
        )
    return read_ids(path)


def open_labels(path: Path) -> Labels:
    """Return the labels that a JSON or a folder holds.

    A JSON is that of a COCO panoptic set; so is a folder with a JSON of its name beside it, or with
    `panoptic.json` inside. Other folders hold PNG files: semantic and instance side by side (`ENDINGS`), in
    two sub-folders (`FOLDERS`), or semantics alone.

    Raises:
        UserError: nothing there, or nothing that can be read.
    """
    if path.suffix == ".json":
        return read_coco_set(path)
    if not path.is_dir():
        raise UserError(
            f"{path}: no such folder; give a folder of PNG files, or the JSON of a COCO panoptic set"
        )
    json = _coco_json(path)
    if json is not None:
        return read_coco_set(json)
    files = sorted(
        file for file in path.rglob("*") if file.suffix.lower() == ".png" and not file.name.startswith(".")
    )
    for pair in ENDINGS:
        if chosen := [file for file in files if file.stem.endswith(pair[0])]:
            return _folder(path, [(_name(path, file, pair[0]), file, _beside(file, pair)) for file in chosen])
    for first, second in FOLDERS:
        if (path / first).is_dir():
            chosen = [file for file in files if file.is_relative_to(path / first)]
            pairs = {file: path / second / file.relative_to(path / first) for file in chosen}
            return _folder(
                path,
                [
                    (_name(path / first, f, ""), f, other if other.is_file() else None)
                    for f, other in pairs.items()
                ],
            )
    return _folder(path, [(_name(path, file, ""), file, None) for file in files])


def _coco_json(folder: Path) -> Path | None:
    """Return the JSON of a COCO panoptic set that belongs to a folder, None where there is none."""
    beside = folder.parent / f"{folder.name}.json"
    inside = [folder / COCO_NAME] if (folder / COCO_NAME).is_file() else sorted(folder.glob("*.json"))
    found = [
        file for file in (beside, *inside) if file.is_file() and "annotations" in read_json(file, "mend it")
    ]
    if len(found) > 1 and found[0] != beside:
        names = ", ".join(file.name for file in found)
        raise UserError(f"{folder}: holds several COCO panoptic sets ({names}); name one of these files")
    return found[0] if found else None


def _folder(path: Path, found: Sequence[tuple[str, Path, Path | None]]) -> IdFolder:
    """Return the folder of (frame, semantic file, instance file)."""
    if not found:
        raise UserError(
            f"{path}: holds no PNG of labels; give the folder of the id maps, or a COCO panoptic JSON"
        )
    files: dict[str, tuple[Path, Path | None]] = {}
    for name, semantic, instance in found:
        if name in files:
            raise UserError(f"{semantic}: of the frame {name}, as {files[name][0]} is; move one of both away")
        files[name] = (semantic, instance)
    without = [semantic for semantic, instance in files.values() if instance is None]
    if 0 < len(without) < len(files):
        raise UserError(
            f"{without[0]}: has no instance file (nor have {len(without) - 1} more of {len(files)}); add "
            "them, or remove all to score semantics alone"
        )
    return IdFolder(path, files)


def _beside(file: Path, ends: tuple[str, str]) -> Path | None:
    other = file.with_name(f"{file.stem.removesuffix(ends[0])}{ends[1]}{file.suffix}")
    return other if other.is_file() else None


def _name(root: Path, file: Path, end: str) -> str:
    """Return the name of a frame: its path below `root` without suffix and ends; flat names are undone."""
    name = file.relative_to(root).with_suffix("").as_posix().removesuffix(end)
    for mark in MARKS:
        name = name.removesuffix(mark)
    return frame_name(name)
