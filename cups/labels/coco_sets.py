"""COCO panoptic sets of any tool: PNG segment ids, and a JSON that says what each segment is.

Format: Kirillov et al., "Panoptic Segmentation" (CVPR 2019), as panopticapi reads it. Segment ids mean
nothing by themselves (panopticapi's IdGenerator makes colours of them); `segments_info` tells their classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import UserError
from cups.io.coco_panoptic import number_colours
from cups.io.files import read_json
from cups.io.pixels import read_header, read_image
from cups.ops.panoptic_map import PanopticMap
from cups.taxonomy import VOID, ClassSet

FIX = "give the JSON of a COCO panoptic set"
Entry = tuple[str, dict[int, tuple[int, bool]], str]
"""File name of a PNG, its segments as of `Annotation`, file name of its image."""


@dataclass(frozen=True)
class Category:
    """One category: its id in the JSON, its name, whether it is a thing, and what it is a kind of."""

    id: int
    name: str
    is_thing: bool
    kind: str = ""


@dataclass(frozen=True)
class Annotation:
    """One image: its PNG, segment id -> (category id, whether it is a crowd), and the image's file name.

    The file name is empty where the JSON lists no such image.
    """

    png: Path
    segments: Mapping[int, tuple[int, bool]]
    image: str = ""


@dataclass(frozen=True)
class CocoSet:
    """A COCO panoptic set.

    Attributes:
        path: the JSON.
        categories: by rising id.
        annotations: by the path of their PNG in the folder, POSIX and without suffix.
    """

    path: Path
    categories: tuple[Category, ...]
    annotations: Mapping[str, Annotation]

    @property
    def names(self) -> list[str]:
        """Names of the frames, sorted."""
        return sorted(self.annotations)

    @property
    def things(self) -> tuple[int, ...]:
        """Positions of the things among the categories."""
        return tuple(index for index, category in enumerate(self.categories) if category.is_thing)

    @cached_property
    def _position(self) -> dict[int, int]:
        return {category.id: index for index, category in enumerate(self.categories)}

    def read(self, name: str, void: int) -> PanopticMap:
        """Read a frame: categories are positions among those of the set, `void` for none.

        The instance of an object is its segment id plus 1, the same in all frames of a video set; stuff and
        crowds have 0.

        Args:
            name: of the frame.
            void: category of what is in no segment.

        Raises:
            UserError: a missing or wrong file, or segments that the JSON does not list.
        """
        annotation = self.annotations[name]
        numbers, ids, starts = read_segments(annotation.png)
        listed = annotation.segments
        unknown = [int(segment) for segment in ids if segment and int(segment) not in listed]
        if unknown:
            raise UserError(f"{annotation.png}: {self._why_unknown(unknown, listed)}")
        category = np.full(len(ids), void, dtype=np.int64)
        instance = np.zeros(len(ids), dtype=np.int64)
        for index, segment in enumerate(ids.tolist()):
            if segment == 0 and 0 not in listed:
                continue
            position = self._position[listed[segment][0]]
            category[index] = position
            if self.categories[position].is_thing and not listed[segment][1]:
                instance[index] = segment + 1
        return PanopticMap(numbers, category, instance, starts)

    def _why_unknown(self, unknown: Sequence[int], listed: Mapping[int, Any]) -> str:
        swapped = [(segment & 255) << 16 | segment & 0xFF00 | segment >> 16 for segment in unknown]
        text = f"holds segment {unknown[0]}, which {self.path} does not list for it"
        if all(segment in listed for segment in swapped):
            return f"{text}; red and blue are swapped (id = R + 256 G + 65536 B): write it as RGB"
        return f"{text} (id = R + 256 G + 65536 B); PNG and JSON are of two different sets"


def read_segments(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the segments of a COCO panoptic PNG, see `cups.io.coco_panoptic.number_colours`.

    Raises:
        UserError: missing file, or one that is no RGB picture.
    """
    if read_header(path).mode not in ("RGB", "RGBA"):
        raise UserError(
            f"{path}: has one channel, a COCO panoptic PNG has three (id = R + 256 G + 65536 B); leave "
            "the JSON out to score it as a map of class ids"
        )
    return number_colours(read_image(path))


def read_coco_set(path: Path, png: Callable[[str], Path] | None = None) -> CocoSet:
    """Read the JSON of a COCO panoptic set and find its PNG files: in the folder of its name, or beside it.

    Args:
        path: the JSON.
        png: returns the PNG of an annotation's file name, where it is elsewhere.

    Raises:
        UserError: no such JSON, or no PNG of it.
    """
    content = read_json(path, FIX)
    try:
        listed = sorted(content["categories"], key=lambda category: category["id"])
        categories = tuple(_category(value) for value in listed)
        images = {str(one["id"]): str(one["file_name"]) for one in content.get("images", [])}
        entries = [
            (
                str(value["file_name"]),
                {int(s["id"]): _segment(s) for s in value["segments_info"]},
                images.get(str(value.get("image_id")), ""),
            )
            for value in content["annotations"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a COCO panoptic JSON ({type(error).__name__} {error}); {FIX}") from None
    entries = _with_slashes(path, entries)
    known = {category.id for category in categories}
    if len(known) < len(categories):
        raise UserError(f"{path}: two categories have one id; give each its own")
    if not entries:
        raise UserError(f"{path}: lists no annotation; {FIX}")
    for file, _, image in entries:
        for name in (file, image):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise UserError(f"{path}: names {name!r}, which is not within its folder; {FIX}")
    if png is None:
        folder = _folder(path, entries[0][0])
        png = folder.joinpath
    annotations: dict[str, Annotation] = {}
    for file, segments, image in entries:
        name = Path(file).with_suffix("").as_posix()
        if name in annotations:
            raise UserError(f"{path}: lists {file} twice; each image has one annotation")
        for category, _ in segments.values():
            if category not in known:
                raise UserError(f"{path}: {file} has category {category}, which 'categories' does not list")
        annotations[name] = Annotation(png(file), segments, image)
    return CocoSet(path, categories, annotations)


def _category(value: Mapping[str, Any]) -> Category:
    kind = str(value.get("supercategory", ""))
    return Category(int(value["id"]), str(value["name"]), bool(value["isthing"]), kind)


def _segment(value: Mapping[str, Any]) -> tuple[int, bool]:
    return int(value["category_id"]), bool(value.get("iscrowd", 0))


def _with_slashes(path: Path, entries: list[Entry]) -> list[Entry]:
    """Return entries with the slashes of this system, where their names are those of Windows."""
    strange = next((file for file, _, _ in entries if "\\" in file), None)
    if strange is None or any((folder / strange).is_file() for folder in _folders(path)):
        return entries
    return [(file.replace("\\", "/"), parts, image.replace("\\", "/")) for file, parts, image in entries]


def _folders(path: Path) -> tuple[Path, Path]:
    """Return where the PNG files of a JSON may lie."""
    return path.with_suffix(""), path.parent


def _folder(path: Path, file: str) -> Path:
    candidates = _folders(path)
    for folder in candidates:
        if (folder / file).is_file():
            return folder
    raise UserError(
        f"{path}: no {file} in {candidates[0]}/ or beside it; put the PNG files into a folder named like "
        "the JSON"
    )


def classes_of_categories(coco: CocoSet, classes: ClassSet) -> tuple[np.ndarray, list[str]] | None:
    """Return the class of each category by its name, (K,) int64 with -1 for none, and the names without one.

    A class may list names of categories, and what they are kinds of, beside its own. None where no name is
    that of a class.
    """
    index = {name: position for position, name in enumerate(classes.names)} | dict(classes.of_category)
    found = np.array(
        [index.get(one.name, index.get(one.kind, -1)) for one in coco.categories], dtype=np.int64
    )
    if (found < 0).all():
        return None
    return found, [category.name for category, one in zip(coco.categories, found, strict=True) if one < 0]


def class_table(coco: CocoSet, classes: ClassSet) -> tuple[np.ndarray, list[str]]:
    """Return the class of each category of ground truth, (K,) int64 with -1 for none, and names without one.

    By name, or by id: where no name is that of a class, and where the classes know every id but not every
    name. Ids that fit in part alone are those of another numbering.

    Raises:
        UserError: no category is one of the classes.
    """
    ids = np.array([category.id for category in coco.categories])
    by_id = classes.of_ids(ids)
    by_id = np.where(by_id == VOID, -1, by_id)
    whole = bool(((by_id >= 0) | np.isin(ids, list(classes.ignored))).all())
    named = classes_of_categories(coco, classes)
    table = by_id if named is None or (named[1] and whole) else named[0]
    if (table < 0).all():
        raise UserError(
            f"{coco.path}: none of its categories ({some([c.name for c in coco.categories])}) is one of "
            f"{classes.file or classes.name} ({some(classes.names)}); give their class file"
        )
    ignored = {int(label) for label in classes.ignored}
    without = [
        category.name
        for category, one in zip(coco.categories, table.tolist(), strict=True)
        if one < 0 and category.id not in ignored
    ]
    return table, without


def some(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
