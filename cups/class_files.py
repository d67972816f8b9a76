"""Class files: YAML that names the classes of ground truth (`docs/data.md`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.files import read_json
from cups.io.yaml_files import load_yaml

SHIPPED = Path(__file__).resolve().parent / "classes"
"""The class files that come with the project: `{name}.yaml`."""
FILE_KEYS = ("name", "classes", "ignore")
CLASS_KEYS = ("id", "trainId", "name", "thing", "color", "categories")
IGNORE_KEYS = ("id", "name")
HIGHEST_ID = 65534
"""Of 16 bits, beside the value of void."""
MOST_CLASSES = 254
"""Of 8 bits, beside the value of void."""


@dataclass(frozen=True)
class Entry:
    """One class of a file.

    Attributes:
        ids: in label files; none for a class that these labels lack.
        train_id: its place among the classes, None where the file's order tells it.
        color: (red, green, blue), None where the file has none.
        categories: names of the categories of COCO panoptic sets that are this class, beside its own name.
    """

    ids: tuple[int, ...]
    train_id: int | None
    name: str
    thing: bool
    color: tuple[int, int, int] | None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassFile:
    """What a class file says.

    Attributes:
        classes: in the order of their trainIds.
        ignored: ids that are void, with their names (empty where the file gives a bare id).
    """

    name: str
    classes: tuple[Entry, ...]
    ignored: Mapping[int, str]


def read_class_file(path: Path) -> ClassFile:
    """Read and check a class file, or the categories of a COCO panoptic JSON.

    Raises:
        UserError: YAML that cannot be read, or an entry that says something impossible.
    """
    content = _categories(path) if path.suffix == ".json" else load_yaml(path, "mend it")
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise UserError(f"{path}: has no list 'classes'; each entry is {{id, name, thing, color}}")
    _check_keys(content, FILE_KEYS, f"{path}")
    entries = _in_order(
        path, [_entry(path, number, value) for number, value in _numbered(content, "classes")]
    )
    ignored = _ignored(path, content.get("ignore"))
    _check_ids(path, entries, ignored)
    return ClassFile(str(content.get("name") or path.stem), tuple(entries), ignored)


def _categories(path: Path) -> dict[str, Any]:
    """Return the categories of a COCO panoptic JSON as a class file would have them, by rising id."""
    try:
        listed = read_json(path, "give a class file")["categories"]
        classes = [
            {"id": one["id"], "name": one["name"], "thing": bool(one["isthing"]), "color": one.get("color")}
            for one in sorted(listed, key=lambda one: one["id"])
        ]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: has no 'categories' of a COCO panoptic JSON; give a class file") from None
    return {"name": path.stem, "classes": classes}


def _numbered(content: Mapping[str, Any], key: str) -> Iterator[tuple[int, Any]]:
    return enumerate(content[key], start=1)


def _check_keys(value: Mapping[Any, Any], allowed: Sequence[str], where: str) -> None:
    if unknown := [str(key) for key in value if key not in allowed]:
        raise UserError(f"{where}: unknown key {unknown[0]}; known are {', '.join(allowed)}")


def _is_id(value: Any, highest: int = HIGHEST_ID) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest


def _entry(path: Path, number: int, value: Any) -> Entry:
    where = f"{path}: class {number}"
    if not isinstance(value, dict):
        raise UserError(
            f"{where}: is no mapping; write {{id: 1, name: road, thing: false, color: [0, 0, 0]}}"
        )
    name = value.get("name")
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where}: has no name; add 'name' (text, in quotes where it is yes, no or a number)")
    where += f" ({name})"
    _check_keys(value, CLASS_KEYS, where)
    categories = _names(value.get("categories", []), where)
    ids = value.get("id", [] if categories else None)
    ids = ids if isinstance(ids, list) else [ids]
    if not all(map(_is_id, ids)):
        raise UserError(
            f"{where}: 'id' is {value.get('id')!r}; give a whole number 0-{HIGHEST_ID}, or a list"
        )
    if not isinstance(value.get("thing"), bool):
        raise UserError(f"{where}: 'thing' is {value.get('thing')!r}; it must be true or false")
    train_id = value.get("trainId")
    if train_id is not None and not _is_id(train_id, MOST_CLASSES - 1):
        raise UserError(f"{where}: 'trainId' is {train_id!r}; it must be 0-{MOST_CLASSES - 1}")
    return Entry(tuple(ids), train_id, name, value["thing"], _color(value.get("color"), where), categories)


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise UserError(f"{where}: 'categories' is {value!r}; it must be a list of names")
    return tuple(value)


def _color(value: Any, where: str) -> tuple[int, int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3 or not all(_is_id(part, 255) for part in value):
        raise UserError(f"{where}: 'color' is {value!r}; it must be [red, green, blue], each 0-255")
    return value[0], value[1], value[2]


def _in_order(path: Path, entries: list[Entry]) -> list[Entry]:
    """Return the classes by their trainId, or as they stand where there are none."""
    if not 0 < len(entries) <= MOST_CLASSES:
        raise UserError(f"{path}: holds {len(entries)} classes; 1 to {MOST_CLASSES} fit")
    for name, count in Counter(entry.name for entry in entries).items():
        if count > 1:
            raise UserError(f"{path}: {count} classes are named {name}; give each its own name")
    given = [entry.train_id for entry in entries if entry.train_id is not None]
    if not given:
        return entries
    if sorted(given) != list(range(len(entries))):
        raise UserError(
            f"{path}: 'trainId' must be 0-{len(entries) - 1}, each once, or missing everywhere; found "
            f"{', '.join(map(str, sorted(given)))}"
        )
    return sorted(entries, key=lambda entry: entry.train_id or 0)


def _ignored(path: Path, content: Any) -> dict[int, str]:
    """Return the ids that are void, with their names (empty where the file gives a bare id)."""
    if content is None:
        return {}
    if not isinstance(content, list):
        raise UserError(f"{path}: 'ignore' must be a list of ids, or of {{id, name}}")
    ignored: dict[int, str] = {}
    label: Any
    for number, value in enumerate(content, start=1):
        where = f"{path}: 'ignore' entry {number}"
        if isinstance(value, dict):
            _check_keys(value, IGNORE_KEYS, where)
            label, name = value.get("id"), str(value.get("name", ""))
        else:
            label, name = value, ""
        if not _is_id(label, HIGHEST_ID + 1):
            raise UserError(f"{where}: is {label!r}; it must be a whole number 0-{HIGHEST_ID + 1}")
        if label in ignored:
            raise UserError(f"{where}: id {label} is there twice; leave it out once")
        ignored[label] = name
    return ignored


def _check_ids(path: Path, entries: Sequence[Entry], ignored: Mapping[int, str]) -> None:
    owner: dict[int, str] = {}
    for entry in entries:
        for label in entry.ids:
            if label in owner:
                raise UserError(
                    f"{path}: id {label} is of {owner[label]} and of {entry.name}; an id has one class"
                )
            if label in ignored:
                raise UserError(f"{path}: id {label} ({entry.name}) is in 'ignore' too; leave it out there")
            owner[label] = entry.name
    taken: dict[str, str] = {entry.name: entry.name for entry in entries}
    for entry in entries:
        for name in entry.categories:
            if taken.setdefault(name, entry.name) != entry.name:
                raise UserError(
                    f"{path}: category {name} is of {taken[name]} and of {entry.name}; it has one class"
                )
