"""Data sets as data: YAML that says where the files of a set lie, how they are read, what its classes are.

`cups/data_sets/*.yaml` describe the sets that come with the project; a user's own file is read in the same
way (`docs/data.md`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.yaml_files import load_yaml

SHIPPED = Path(__file__).resolve().parent / "data_sets"
"""The descriptions that come with the project: `{name}.yaml`."""
SUFFIXES = (".yaml", ".yml")
KEYS = ("name", "title", "folder", "layout", "splits", "reader", "classes", "frames", "select", "clips",
        "unlabelled", "download", "published")  # fmt: skip
LAYOUT_KEYS = ("images", "labels", "instances", "json")
READER_KEYS = ("category", "instance", "crowd")
PUBLISHED_KEYS = ("method", "pq", "source")
CITYSCAPES, COCO = "cityscapes", "coco"
READERS = (CITYSCAPES, COCO)
"""Readers by name: Cityscapes' instanceIds (`id * 1000 + number`, bare ids below 1000; grey of 16 bits, or
RGB with R + 256 G + 65536 B), and the JSON of a COCO panoptic set."""
CLIPS = ("folder", "prefix")
"""What tells the clip of a frame: its folder, or its name up to the first underscore."""
FIELDS = ("split", "frame", "image")
CHANNELS = "LRGBA"
_TERM = re.compile(rf"(?:(\d{{1,9}})\s*\*?\s*)?([{CHANNELS}])")
_SUM = re.compile(r"\(?([^()/%&]+?)\)?\s*(?:(//|%|&)\s*(\d{1,9}))?")


@dataclass(frozen=True)
class Channels:
    """A number made of the channels of a pixel: a weighted sum, and what is done to it.

    Attributes:
        weights: channel ("L" for grey, "R", "G", "B", "A") -> factor.
        operation: "//", "%" or "&", with `operand`; empty for none.
    """

    weights: Mapping[str, int]
    operation: str = ""
    operand: int = 0


@dataclass(frozen=True)
class Encoding:
    """How pixels of label files hold the id of a class and the number of an object.

    Attributes:
        category: id of the class.
        instance: number of the object within its class, 0 for none; of the instance file where there is one.
        crowd: not 0 where a segment is no single object, or is not to be judged.
    """

    category: Channels
    instance: Channels
    crowd: Channels | None = None


@dataclass(frozen=True)
class Layout:
    """Where files lie below the root: patterns, of several the first that leads to files.

    `{split}` is the split's folder, `{frame}` the name of a frame, which may hold folders, and `{image}` the
    image that the JSON of a COCO set names.
    """

    images: tuple[str, ...]
    labels: tuple[str, ...]
    instances: tuple[str, ...] = ()
    json: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A published number: PQ in percent, of which method, and where it stands."""

    method: str
    pq: float
    source: str


@dataclass(frozen=True)
class SetFile:
    """What a description says.

    Attributes:
        path: the file.
        name, title: of the set, in settings and in tables.
        folder: where it lies below the folder of all data sets.
        layout: None for that of Cityscapes.
        splits: name of a split -> its folder, where they differ.
        reader: one of `READERS`, or the encoding of the label files.
        classes: a class file, in which `{classes}` stands for `DATA.NUM_CLASSES`; empty: the categories of
            the JSON.
        frames: split -> how many frames it has.
        select: pattern of the frames that are evaluated, as in a shell; empty for all.
        clips: one of `CLIPS`; empty where frames are no video.
        unlabelled: whether images without labels belong to the set.
        download: what to download, and from where.
        published: numbers to compare with.
    """

    path: Path
    name: str
    title: str
    folder: str
    layout: Layout | None
    splits: Mapping[str, str]
    reader: str | Encoding
    classes: str
    frames: Mapping[str, int] = field(default_factory=dict)
    select: str = ""
    clips: str = ""
    unlabelled: bool = False
    download: str = ""
    published: tuple[Published, ...] = ()

    def split_folder(self, split: str) -> str:
        """Return the folder of a split."""
        return self.splits.get(split, split)

    def class_file(self, num_classes: int) -> str:
        """Return the class file: one beside this file, or the name of a shipped one; empty for none."""
        name = self.classes.replace("{classes}", str(num_classes))
        beside = self.path.parent / name
        return str(beside) if name and beside.suffix and beside.is_file() else name


def shipped_names() -> list[str]:
    """Return the names of the sets that come with the project."""
    return sorted(file.stem for file in SHIPPED.glob("*.yaml"))


def is_set_name(value: Any) -> bool:
    """Return whether a setting names a shipped set, or a YAML file."""
    return isinstance(value, str) and (value.endswith(SUFFIXES) or value in shipped_names())


def find_set(name_or_path: str | Path) -> SetFile:
    """Return a set by its name, or by the file that describes it.

    Raises:
        UserError: no such set, or a file that says something impossible.
    """
    path = Path(name_or_path)
    if path.suffix not in SUFFIXES:
        path = SHIPPED / f"{path}.yaml"
        if not path.is_file():
            raise UserError(
                f"{name_or_path}: no such data set; choose from {', '.join(shipped_names())}, or give a YAML "
                "file that describes yours"
            )
    if not path.is_file():
        raise UserError(f"{path}: no such file; describe the data set there, or choose one by its name")
    return _cached(path, path.stat().st_mtime_ns)


@cache
def _cached(path: Path, changed: int) -> SetFile:
    """Read a file once while it stays as it is; changed: its time stamp."""
    del changed
    return read_set_file(path)


def read_set_file(path: Path) -> SetFile:
    """Read and check the description of a data set.

    Raises:
        UserError: YAML that cannot be read, or an entry that says something impossible.
    """
    content = load_yaml(path, "mend it")
    if not isinstance(content, dict):
        raise UserError(f"{path}: describes no data set; it needs at least 'layout' and 'reader'")
    told = _Told(path, content)
    told.known(KEYS)
    reader, layout = _reader(path, content.get("reader")), _layout(path, content.get("layout"))
    _check_patterns(path, layout, reader)
    name = told.text("name") or path.stem
    clips = told.text("clips")
    if clips and clips not in CLIPS:
        raise UserError(f"{path}: 'clips' is {clips!r}; it must be {' or '.join(CLIPS)}")
    return SetFile(
        path=path,
        name=name,
        title=told.text("title") or name,
        folder=told.text("folder") or name,
        layout=layout,
        splits=told.mapping("splits", lambda value: isinstance(value, str), "the folder of each split"),
        reader=reader,
        classes=told.text("classes") or ("" if reader == COCO else "cityscapes-{classes}"),
        frames=told.mapping(
            "frames", lambda value: isinstance(value, int) and value > 0, "the frames of each split"
        ),
        select=told.text("select"),
        clips=clips,
        unlabelled=content.get("unlabelled") is True,
        download=told.text("download"),
        published=_published(path, content.get("published", [])),
    )


class _Told:
    """The values of a description, checked as they are taken."""

    def __init__(self, path: Path, content: Mapping[Any, Any]) -> None:
        self.path, self.content = path, content

    def known(self, keys: Sequence[str]) -> None:
        _refuse_unknown(self.path, self.content, keys, "")

    def text(self, key: str) -> str:
        value = self.content.get(key, "")
        if not isinstance(value, str) or "\n" in value.strip():
            raise UserError(f"{self.path}: {key!r} is {value!r}; it must be text of one line")
        return value.strip()

    def mapping(self, key: str, fits: Callable[[Any], bool], meaning: str) -> dict[str, Any]:
        value = self.content.get(key, {})
        if not isinstance(value, dict) or not all(map(fits, value.values())):
            raise UserError(f"{self.path}: {key!r} is {value!r}; it must be {meaning}, {{val: ...}}")
        return {str(name): one for name, one in value.items()}


def _refuse_unknown(path: Path, value: Mapping[Any, Any], keys: Sequence[str], where: str) -> None:
    if unknown := [str(key) for key in value if key not in keys]:
        raise UserError(f"{path}: unknown key {where}{unknown[0]}; known are {', '.join(keys)}")


def _layout(path: Path, value: Any) -> Layout | None:
    if value == CITYSCAPES:
        return None
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: 'layout' is {value!r}; it must be {CITYSCAPES}, or patterns of {', '.join(LAYOUT_KEYS)}"
        )
    _refuse_unknown(path, value, LAYOUT_KEYS, "layout.")
    parts = {key: _patterns(path, key, value.get(key)) for key in LAYOUT_KEYS}
    return Layout(**parts)


def _patterns(path: Path, key: str, value: Any) -> tuple[str, ...]:
    values = [] if value is None else value if isinstance(value, list) else [value]
    for pattern in values:
        names = re.findall(r"{([^{}]*)}", pattern) if isinstance(pattern, str) else ["?"]
        rest = re.sub(r"{\w+}", "", str(pattern))
        outside = str(pattern).startswith("/") or ".." in str(pattern).split("/")
        if not set(names) <= set(FIELDS) or set(rest) & set("{}") or outside:
            raise UserError(
                f"{path}: layout.{key} is {pattern!r}; it must be a path below the data set's folder, with "
                f"{', '.join(f'{{{name}}}' for name in FIELDS)} for what varies"
            )
    return tuple(values)


def _check_patterns(path: Path, layout: Layout | None, reader: str | Encoding) -> None:
    """Refuse layouts that lack what their reader needs."""
    if layout is None:
        if reader != CITYSCAPES:
            raise UserError(
                f"{path}: the layout of {CITYSCAPES} has its own reader; write reader: {CITYSCAPES}"
            )
        return
    needed = ("images", "labels", *(("json",) if reader == COCO else ()))
    for key in needed:
        patterns = getattr(layout, key)
        if not patterns:
            raise UserError(f"{path}: layout.{key} is missing; add the path with {{split}} and {{frame}}")
        varies = ("{frame}", *(("{image}",) if reader == COCO and key == "images" else ()))
        if key != "json" and not all(any(one in pattern for one in varies) for pattern in patterns):
            raise UserError(f"{path}: layout.{key} lacks {' or '.join(varies)}: all frames would be one file")


def _reader(path: Path, value: Any) -> str | Encoding:
    if value in READERS:
        return str(value)
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: 'reader' is {value!r}; it must be {' or '.join(READERS)}, or say what channels hold: "
            "{category: R, instance: 256 G + B}"
        )
    _refuse_unknown(path, value, READER_KEYS, "reader.")
    parts = {key: _channels(path, key, value[key]) for key in READER_KEYS if key in value}
    if "category" not in parts:
        raise UserError(f"{path}: reader.category is missing; say which channel holds the id of the class")
    return Encoding(parts["category"], parts.get("instance", Channels({})), parts.get("crowd"))


def _channels(path: Path, key: str, value: Any) -> Channels:
    match = _SUM.fullmatch(value.strip()) if isinstance(value, str) else None
    terms = [_TERM.fullmatch(term.strip()) for term in match[1].split("+")] if match else [None]
    if match is None or not all(terms):
        raise UserError(
            f"{path}: reader.{key} is {value!r}; write a sum of channels ({', '.join(CHANNELS)}; L is grey), "
            "such as R, 256 B + A, L // 1000, L % 1000 or G & 3"
        )
    weights = {term[2]: int(term[1] or 1) for term in terms if term}
    operand = int(match[3] or 0)
    if match[2] and operand == 0:
        raise UserError(f"{path}: reader.{key} is {value!r}; the number after {match[2]} must not be 0")
    return Channels(weights, match[2] or "", operand)


def _published(path: Path, value: Any) -> tuple[Published, ...]:
    entries = value if isinstance(value, list) else [value]
    for number, entry in enumerate(entries, start=1):
        fits = isinstance(entry, dict) and set(entry) == set(PUBLISHED_KEYS)
        if not fits or not isinstance(entry["pq"], (int, float)):
            raise UserError(
                f"{path}: 'published' entry {number}: needs {', '.join(PUBLISHED_KEYS)}; pq is in percent"
            )
    return tuple(Published(str(one["method"]), float(one["pq"]), str(one["source"])) for one in entries)
