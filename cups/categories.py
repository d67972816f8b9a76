"""What the pseudo-classes of a network are called: by number, or by names that somebody matched to them.

Names lie beside a checkpoint, in `{its stem}.names.json`; they never change what is predicted where.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cups.errors import UserError
from cups.io.files import file_sha256, read_json, write_json
from cups.io.yaml_files import load_yaml
from cups.structures import PseudoClasses
from cups.taxonomy import VOID, ClassSet
from cups.visualization import pseudo_palette

log = logging.getLogger(__name__)

SCHEMA = 1
_FIX = "write it again with val.py --save_names, or choose another file with `names`"


@dataclass(frozen=True, eq=False)
class Categories:
    """The categories of predictions.

    Attributes:
        names: of each category.
        is_thing: whether its objects are counted.
        colors: (C, 3) uint8 RGB.
        table: (S + T,) int64 category of each pseudo-class, in the numbering of `PseudoClasses`.
        provenance: where the names come from; `uses_ground_truth` says whether labels were read for them.
    """

    names: tuple[str, ...]
    is_thing: tuple[bool, ...]
    colors: np.ndarray
    table: np.ndarray
    provenance: Mapping[str, Any] = field(default_factory=lambda: {"uses_ground_truth": False})

    def to_coco(self) -> list[dict[str, Any]]:
        """Return COCO `categories`; ids are positions in `names`."""
        return [
            {"id": i, "name": name, "supercategory": name, "isthing": int(thing), "color": color.tolist()}
            for i, (name, thing, color) in enumerate(zip(self.names, self.is_thing, self.colors, strict=True))
        ]


def pseudo_categories(pseudo: PseudoClasses) -> Categories:
    """Return the pseudo-classes themselves: `stuff 12`, `thing 3`."""
    things = tuple(bool(thing) for thing in pseudo.is_thing)
    return Categories(pseudo.names, things, pseudo_palette(pseudo.total), np.arange(pseudo.total))


def named_categories(
    pseudo: PseudoClasses,
    classes: Sequence[tuple[str, bool, Sequence[int]]],
    assignment: Sequence[int],
    provenance: Mapping[str, Any],
) -> Categories:
    """Return classes in place of pseudo-classes; those without a class follow under their own name.

    Args:
        classes: name, whether it is a thing, and colour of each.
        assignment: (S + T,) class of each pseudo-class, 255 for none.
    """
    own = pseudo_categories(pseudo)
    rows = list(classes)
    table = np.asarray(assignment, dtype=np.int64).copy()
    for index in np.flatnonzero(table == VOID).tolist():
        table[index] = len(rows)
        rows.append((own.names[index], own.is_thing[index], own.colors[index].tolist()))
    names, things, colors = zip(*rows, strict=True)
    return Categories(
        tuple(names), tuple(map(bool, things)), np.array(colors, dtype=np.uint8), table, provenance
    )


def names_file(checkpoint: Path) -> Path:
    """Return where the names of a checkpoint lie: `last.ckpt` -> `last.names.json`."""
    return checkpoint.with_suffix(".names.json")


def save_names(
    checkpoint: Path, classes: ClassSet, assignment: Sequence[int], provenance: Mapping[str, Any]
) -> Path:
    """Write the names of a network's pseudo-classes beside its checkpoint; return the file.

    Args:
        assignment: (S + T,) class of each pseudo-class, 255 for none.
        provenance: what the names were matched on.
    """
    rows = zip(classes.names, classes.colors.tolist(), strict=True)
    content = {
        "schema": SCHEMA,
        "checkpoint": {"file": checkpoint.name, "sha256": file_sha256(checkpoint)},
        "classes": [
            {"name": name, "isthing": index in classes.things, "color": color}
            for index, (name, color) in enumerate(rows)
        ],
        "assignment": [int(value) for value in assignment],
        "provenance": dict(provenance),
    }
    path = names_file(checkpoint)
    write_json(path, content)
    return path


def load_categories(
    checkpoint: Path, pseudo: PseudoClasses, names: Path | None = None, own: Categories | None = None
) -> Categories:
    """Return the categories of a network: by the names given, else by those beside it, else its own.

    Names beside a checkpoint that is another one by now are left aside, with a warning.

    Args:
        names: a file of `save_names`, or YAML with one line a pseudo-class, `thing 3: car`.
        own: those that the network learnt from ground truth; by default its pseudo-classes by number.

    Raises:
        UserError: a file that cannot be read, or that names other pseudo-classes.
    """
    if names is not None and names.suffix.lower() in (".yaml", ".yml"):
        return _by_hand(names, pseudo)
    path = names or names_file(checkpoint)
    if names is None and not path.is_file():
        return own or pseudo_categories(pseudo)
    content = read_json(path, _FIX)
    try:
        stored = content["checkpoint"]["sha256"]
        classes = [
            (str(row["name"]), bool(row["isthing"]), _color(row["color"])) for row in content["classes"]
        ]
        assignment, provenance = content["assignment"], dict(content["provenance"])
        fits = len(assignment) == pseudo.total and _in_range(assignment, len(classes))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: holds no names of pseudo-classes; {_FIX}") from None
    if stored != file_sha256(checkpoint):
        if names is not None:
            raise UserError(f"{path}: names the classes of another checkpoint; {_FIX}")
        log.warning("%s: belongs to another checkpoint, left aside", path)
        return own or pseudo_categories(pseudo)
    if not fits:
        raise UserError(f"{path}: does not fit the {pseudo.total} pseudo-classes of {checkpoint}; {_FIX}")
    return named_categories(pseudo, classes, assignment, {**provenance, "file": path.name})


def _color(told: Sequence[int]) -> Sequence[int]:
    """Return (red, green, blue); raises `ValueError` for anything else."""
    if len(told) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in told):
        raise ValueError("no colour")
    return told


def _in_range(assignment: Sequence[int], count: int) -> bool:
    return all(isinstance(value, int) and (0 <= value < count or value == VOID) for value in assignment)


def _by_hand(path: Path, pseudo: PseudoClasses) -> Categories:
    """Read `thing 3: car`, `stuff 0: road`; pseudo-classes of one kind with one name become one category."""
    given = load_yaml(path, "check `names`")
    if not isinstance(given, dict) or not given:
        raise UserError(f"{path}: holds no names; a line looks like 'thing 3: car'")
    own = pseudo_categories(pseudo)
    unknown = [str(key) for key in given if key not in own.names]
    if unknown:
        raise UserError(
            f"{path}: names {unknown[0]}, which the network lacks; it has stuff 0 to {pseudo.stuffs - 1} and "
            f"thing 0 to {pseudo.things - 1}"
        )
    rows: dict[tuple[str, bool], int] = {}
    assignment = np.full(pseudo.total, VOID)
    for index, (name, thing) in enumerate(zip(own.names, own.is_thing, strict=True)):
        if name in given:
            assignment[index] = rows.setdefault((str(given[name]), thing), len(rows))
    palette = pseudo_palette(len(rows))
    classes = [(name, thing, palette[i].tolist()) for (name, thing), i in rows.items()]
    about = {"uses_ground_truth": None, "source": "given by hand", "file": path.name}
    return named_categories(pseudo, classes, assignment.tolist(), about)
